import Blobs
import Console
import LinuxIO
import Registry
import Serving
import Synchronization
import Wire

/// Where devices' files are worked on: threads beside the reactors, and the count of the uploads that run at once.
final class UploadDesk: Sendable {
    /// Requests that bring bytes or take them, at once: of all devices, and of one. Each holds a few hundred kilobytes at the most.
    static let mostAtOnce = 256, mostOfDevice = 16
    private static let threads = 4

    let directory: BlobDirectory
    /// Signs links.
    let key: SymmetricKey
    private let worker: Worker
    private let places: Mutex<(total: Int, ofDevice: [String: Int])> = Mutex((0, [:]))

    init(_ directory: BlobDirectory, key: SymmetricKey) throws(SystemError) {
        self.directory = directory
        self.key = key
        worker = try Worker(threads: Self.threads)
    }

    /// Makes the directory, removes what a crash has left, and counts. Files are taken and given afterwards.
    func prepare() {
        worker.submit { [directory] in
            do throws(SystemError) { try directory.prepare(now: Clock.unixSeconds) } catch {
                Log.error("uploads-unusable", ["directory": directory.path, "reason": error.description])
            }
        }
    }

    /// Removes what nobody will make a file of any more.
    func sweep() { worker.submit { [directory] in directory.sweep(now: Clock.unixSeconds) } }

    /// Runs work that waits for the disk, and then `done` with its outcome on the reactor of a connection that is still there and still
    /// at the same request.
    func run<Output: Sendable>(
        for connection: HTTPConnection, on reactor: Reactor, _ work: @escaping @Sendable () -> Output,
        done: @escaping @Sendable (HTTPConnection, Output, Reactor) -> Void
    ) {
        let token = connection.token, serial = connection.serial, mailbox = reactor.mailbox
        worker.submit {
            let result = work()
            mailbox.send { reactor in
                guard let connection = reactor.source(token) as? HTTPConnection, connection.serial == serial else { return }
                done(connection, result, reactor)
            }
        }
    }

    /// Runs work that waits for the disk and that nobody waits for.
    func submit(_ work: @escaping @Sendable () -> Void) { worker.submit(work) }

    /// A place for one more request; nil when there are too many. It is given back when the place is gone.
    func place(for device: String) -> UploadPlace? {
        let isFree = places.withLock { places in
            guard places.total < Self.mostAtOnce, places.ofDevice[device, default: 0] < Self.mostOfDevice else { return false }
            places.total += 1
            places.ofDevice[device, default: 0] += 1
            return true
        }
        return isFree ? UploadPlace(of: device, at: self) : nil
    }

    fileprivate func leave(_ device: String) {
        places.withLock { places in
            places.total -= 1
            let left = (places.ofDevice[device] ?? 1) - 1
            places.ofDevice[device] = left > 0 ? left : nil
        }
    }

    /// Ends the threads, after what waits.
    func finish() { worker.finish() }
}

/// A device's place among the uploads that run at once.
final class UploadPlace: Sendable {
    private let device: String
    let desk: UploadDesk

    fileprivate init(of device: String, at desk: UploadDesk) {
        self.device = device
        self.desk = desk
    }

    deinit { desk.leave(device) }
}
