import Console
import LinuxIO
import Wire

/// Who is told where the device belongs.
protocol ProvisionerOwner: AnyObject {
    /// Also when it is where it was before: then that hub can be asked again.
    func assigned(_ assignment: Assignment, on reactor: Reactor)
    /// An attempt failed; another one follows while nobody knows where the device belongs.
    func unassigned(_ reason: String, on reactor: Reactor)
}

/// Knows where the device belongs: from the file of last time, else from the provisioning service, which is asked again when the hub does
/// not want the device or has been away for long. The old assignment stays in use until there is another one.
final class Provisioner {
    private let settings: ProvisioningSettings
    private weak var owner: (any ProvisionerOwner)?
    private(set) var assignment: Assignment?
    private var pace = ProvisioningPace()
    private var backOff = BackOff()
    private var running: Registration?
    private var retry: Timer?
    private var isWanted = false
    private var lastReason = ""

    init(_ settings: ProvisioningSettings, owner: any ProvisionerOwner, on reactor: Reactor) {
        self.settings = settings
        self.owner = owner
        retry = Timer(on: reactor) { [weak self] _, reactor in self?.register(on: reactor) }
    }

    /// Goes where the device was last, and asks when that is not known or was for another certificate.
    func start(on reactor: Reactor) {
        assignment = Assignment.read(settings.path, of: settings.name)
        if let assignment {
            Log.info("assignment-kept", ["hub": assignment.hub.description, "device": assignment.deviceID])
            owner?.assigned(assignment, on: reactor)
        }
        guard assignment == nil || assignment?.thumbprint != settings.thumbprint() else { return }
        want(inMilliseconds: 0, on: reactor)
    }

    func stop(on reactor: Reactor) {
        owner = nil
        rest(on: reactor)
        if let timer = retry.take() { reactor.remove(timer) }
    }

    /// The hub took the device.
    func hubTook(on reactor: Reactor) {
        pace.taken()
        rest(on: reactor)
    }

    /// An attempt at the hub failed.
    /// - Parameter isRefusal: it answered, and does not want the device.
    func hubFailed(isRefusal: Bool, on reactor: Reactor) {
        guard !isWanted, let wait = pace.failed(isRefusal: isRefusal, at: Clock.milliseconds, jitter: .random(in: 0..<1)) else { return }
        want(inMilliseconds: wait, on: reactor)
    }

    private func want(inMilliseconds wait: Int, on reactor: Reactor) {
        isWanted = true
        retry?.set(inMilliseconds: wait, on: reactor)
    }

    /// Nothing has to be asked.
    private func rest(on reactor: Reactor) {
        isWanted = false
        retry?.set(inMilliseconds: nil, on: reactor)
        running.take()?.cancel(on: reactor)
    }

    private func register(on reactor: Reactor) {
        guard running == nil, owner != nil else { return }
        Log.info("registering", ["service": settings.name.endpoint.description, "registration": settings.name.id])
        running = Registration(settings, on: reactor) { [weak self] outcome, reactor in
            guard let self else { return }
            running = nil
            switch outcome {
            case .assigned(let assignment): assigned(assignment, on: reactor)
            case .refused(let reason): failed(reason, isRefusal: true, atLeastSeconds: 0, on: reactor)
            case .unavailable(let reason, let seconds): failed(reason, isRefusal: false, atLeastSeconds: seconds ?? 0, on: reactor)
            }
        }
    }

    private func assigned(_ assignment: Assignment, on reactor: Reactor) {
        isWanted = false
        lastReason = ""
        backOff.connected(at: Clock.milliseconds)
        Log.notice("assigned", ["hub": assignment.hub.description, "device": assignment.deviceID])
        if assignment != self.assignment {
            do throws(SystemError) { try assignment.write(settings.path) } catch {
                Log.error("assignment-not-kept", ["file": settings.path, "reason": error.reason])
            }
        }
        self.assignment = assignment
        owner?.assigned(assignment, on: reactor)
    }

    private func failed(_ reason: String, isRefusal: Bool, atLeastSeconds seconds: Int, on reactor: Reactor) {
        let jitter = Double.random(in: 0..<1), least = seconds * 1000 + Int(Double(seconds) * 250 * jitter)
        let wait = max(least, backOff.delay(after: isRefusal, at: Clock.milliseconds, jitter: jitter))
        Log.write(
            reason == lastReason ? .info : .warning, isRefusal ? "registration-refused" : "registration-failed",
            ["service": settings.name.endpoint.description, "reason": reason, "retry-milliseconds": "\(wait)"])
        lastReason = reason
        want(inMilliseconds: wait, on: reactor)
        owner?.unassigned(reason, on: reactor)
    }
}

/// When a hub's failures are reason enough to ask the provisioning service again.
///
///     refused   at once, with a second's jitter; if the same goes on, after 15 s, 30 s … 10 min
///     away      once it has been so for five minutes, then in the same steps
struct ProvisioningPace {
    static let patienceMilliseconds: UInt64 = 300_000
    private static let first = 15_000, last = 600_000

    private var questions = 0
    private var notBefore: UInt64 = 0
    private var awaySince: UInt64?

    /// The hub took the device: the next trouble is a new one.
    mutating func taken() { self = ProvisioningPace() }

    /// Milliseconds until the service is to be asked; nil: not for this failure.
    /// - Parameters:
    ///   - now: milliseconds of a clock that never steps.
    ///   - jitter: from 0 up to 1, random.
    mutating func failed(isRefusal: Bool, at now: UInt64, jitter: Double) -> Int? {
        if isRefusal {
            awaySince = nil
        } else {
            let since = awaySince ?? now
            awaySince = since
            guard now - min(since, now) >= Self.patienceMilliseconds else { return nil }
        }
        guard now >= notBefore else { return nil }
        let pause = min(Self.last, Self.first << min(questions, 10))
        questions += 1
        notBefore = now + UInt64(pause)
        return Int(1000 * min(max(jitter, 0), 1))
    }
}
