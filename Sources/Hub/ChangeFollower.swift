import Console
import LinuxIO
import Registry
import Store
import Streams
import Wire

/// Acts on what tools and requests changed in the registry: cuts off whoever may no longer be there. Reads the change log
/// when the bell rings, and every second in any case.
final class ChangeFollower: Source {
    private let core: HubCore
    private let bell: OwnedDescriptor
    private var sequence: UInt64
    private var hasFailed = false

    init(core: HubCore, on reactor: Reactor) throws {
        self.core = core
        sequence = try core.registry.store.lastSequence()
        bell = try Bell.hang(core.paths)
        super.init()
        try reactor.add(self, descriptor: bell.raw, .readable)
        reactor.setDeadline(of: self, inMilliseconds: 1000)
    }

    override var isBackground: Bool { true }
    override func abort(on reactor: Reactor) { reactor.remove(self, descriptor: bell.raw) }

    override func ready(_ readiness: Readiness, on reactor: Reactor) {
        Bell.silence(bell)
        catchUp()
    }

    override func deadlinePassed(on reactor: Reactor) {
        catchUp()
        reactor.setDeadline(of: self, inMilliseconds: 1000)
    }

    private func catchUp() {
        do throws(StoreError) {
            while true {
                let page = try core.registry.store.changes(after: sequence)
                if page.missed { checkEverybody() }
                for change in page.changes {
                    sequence = change.sequence
                    apply(change)
                }
                if page.changes.count < 1000 { break }
            }
            hasFailed = false
        } catch {
            if !hasFailed { Log.error("change-log-unreadable", ["reason": error.description]) }
            hasFailed = true
        }
    }

    private func apply(_ change: Change) {
        switch change.kind {
        case .identityDeleted:
            cut(change.device, module: change.module)
            if let name = ClientIdentity(deviceID: change.device, moduleID: change.module.isEmpty ? nil : change.module) {
                core.directory.forget(name)
            }
        case .identityUpdated where change.aspects.contains(.status):
            if !isUsable(change.device, module: change.module) { cut(change.device, module: change.module) }
        case .policyDeleted: endStreams { $0.order.policy == change.name }
        default: break
        }
    }

    private func isUsable(_ device: String, module: String) -> Bool {
        guard let name = ClientIdentity(deviceID: device, moduleID: module.isEmpty ? nil : module) else { return false }
        do { return try core.registry.identity(name).isEnabled } catch { return !error.isAbsence }
    }

    /// After a gap in the log: everybody is asked for again.
    private func checkEverybody() {
        for (name, _) in core.directory.all where !isUsable(name.deviceID, module: name.moduleID ?? "") {
            cut(name.deviceID, module: name.moduleID ?? "")
        }
    }

    /// Cuts a device with its modules, or one module: connections and streams.
    private func cut(_ device: String, module: String) {
        for (name, presence) in core.directory.present(ofDevice: device) where module.isEmpty || name.moduleID == module {
            presence.mailbox.send { reactor in (reactor.source(presence.token) as? DeviceConnection)?.cut(.disabled, on: reactor) }
        }
        endStreams { $0.client.deviceID == device && (module.isEmpty || $0.client.moduleID == module) }
    }

    private func endStreams(where isMeant: @escaping @Sendable (HubStream) -> Bool) {
        for mailbox in core.mailboxes {
            mailbox.send { reactor in Desk.of(reactor)?.endStreams(where: isMeant, .deviceRefused, on: reactor) }
        }
    }
}

extension RegistryError {
    /// The identity is not there, as opposed to: it could not be read.
    fileprivate var isAbsence: Bool {
        switch self {
        case .deviceNotFound, .moduleNotFound: true
        default: false
        }
    }
}

extension HubCore {
    /// Makes the follower look at once; for the hub's own writes.
    func lookForChanges() { Bell.ring(paths) }
}
