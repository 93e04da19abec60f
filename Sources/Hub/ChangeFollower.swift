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
    private let desks: Desks
    private let bell: OwnedDescriptor
    private var sequence: UInt64
    private var hasFailed = false

    init(core: HubCore, desks: Desks, on reactor: Reactor) throws {
        self.core = core
        self.desks = desks
        sequence = try core.registry.store.lastSequence()
        core.allotments.take(try core.registry.quotas())
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
        desks.look()
        reactor.setDeadline(of: self, inMilliseconds: 1000)
    }

    private func catchUp() {
        do throws(StoreError) {
            while true {
                let page = try core.registry.store.changes(after: sequence)
                if page.missed {
                    core.checkEverybody()
                    takeQuotas()
                    tellDesired()
                    deliver()
                    desks.wake()
                    if page.changes.isEmpty { sequence = try core.registry.store.lastSequence() }
                }
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
        case .identityCreated, .identityUpdated, .twinUpdated:
            if let name = ClientIdentity(deviceID: change.device, moduleID: change.module.isEmpty ? nil : change.module) {
                desks.configurations.changed(name)
            }
        default: break
        }
        switch change.kind {
        case .identityDeleted:
            check(change.device, module: change.module)
            if let name = ClientIdentity(deviceID: change.device, moduleID: change.module.isEmpty ? nil : change.module) {
                core.directory.forget(name)
            }
            if change.module.isEmpty { core.take(Quota(), of: change.device) }
        case .identityUpdated where !change.aspects.isDisjoint(with: [.status, .authentication]):
            check(change.device, module: change.module)
        case .policyUpdated where !change.aspects.isDisjoint(with: [.rights, .authentication]): checkPolicy(change.name)
        case .policyDeleted: checkPolicy(change.name)
        case .authorityUpdated where change.aspects.contains(.authentication): checkAuthority(change.name)
        case .jobUpdated: desks.jobs.changed(change.name)
        case .configurationUpdated: desks.configurations.wake()
        case .transferUpdated: desks.transfers.wake()
        case .quotaUpdated: takeQuota(of: change.device)
        case .messageQueued: core.offerMessages(of: change.device)
        case .twinUpdated where change.aspects.contains(.desired): tellDesired(change)
        default: break
        }
    }

    /// Tells a connected device what has become of its desired properties.
    private func tellDesired(_ change: Change) {
        guard let name = ClientIdentity(deviceID: change.device, moduleID: change.module.isEmpty ? nil : change.module),
            let presence = core.directory[name]
        else { return }
        do throws(RegistryError) {
            let known = try core.registry.desiredNotice(of: change)
            let notice = if let known { known } else { try core.registry.desiredNotice(of: name) }
            presence.mailbox.send { reactor in (reactor.source(presence.token) as? DeviceConnection)?.tell(notice, on: reactor) }
        } catch {
            if !error.isAbsence { Log.error("twin-unreadable", ["identity": name.clientID, "reason": error.description]) }
        }
    }

    /// Tells every connected device all of its desired properties: what changed in them is not known any more.
    private func tellDesired() {
        let core = self.core
        for mailbox in core.mailboxes {
            mailbox.send { reactor in
                for case let connection as DeviceConnection in reactor.sources {
                    guard let name = connection.admission?.name, connection.granted(.desiredProperties) != nil,
                        let notice = try? core.registry.desiredNotice(of: name)
                    else { continue }
                    connection.tell(notice, on: reactor)
                }
            }
        }
    }

    private func deliver() {
        for mailbox in core.mailboxes {
            mailbox.send { reactor in
                for case let connection as DeviceConnection in reactor.sources { connection.deliver(on: reactor) }
            }
        }
    }

    private func takeQuota(of device: String) {
        do throws(RegistryError) {
            core.take(try core.registry.quota(of: device), of: device)
        } catch {
            if error.isAbsence { core.take(Quota(), of: device) } else { Log.error("quota-unreadable", ["device": device]) }
        }
    }

    private func takeQuotas() {
        do throws(RegistryError) {
            core.allotments.take(try core.registry.quotas())
            core.ration()
        } catch {
            Log.error("quotas-unreadable", ["reason": error.description])
        }
    }

    /// Looks at a device with its modules, or at one module: connections and streams.
    private func check(_ device: String, module: String) {
        for (name, presence) in core.directory.present(ofDevice: device) where module.isEmpty || name.moduleID == module {
            presence.mailbox.send { reactor in (reactor.source(presence.token) as? DeviceConnection)?.checkCredential(on: reactor) }
        }
        core.checkStreams { $0.client.deviceID == device && (module.isEmpty || $0.client.moduleID == module) }
    }

    private func checkPolicy(_ policy: String) {
        core.check { $0.isLetIn(by: policy) }
        core.checkStreams { $0.order.policy == policy }
    }

    private func checkAuthority(_ name: String) {
        core.check { $0.isLetIn(byAuthority: name) }
        core.checkStreams { $0.isLetIn(byAuthority: name) }
    }
}

extension HubCore {
    /// Makes the follower look at once; for the hub's own writes.
    func lookForChanges() { Bell.ring(paths) }

    /// Whether everybody who is here still may be: after changes that nobody counted.
    func checkEverybody() {
        check { _ in true }
        checkStreams { _ in true }
    }

    fileprivate func check(where isMeant: @escaping @Sendable (DeviceConnection) -> Bool) {
        for mailbox in mailboxes {
            mailbox.send { reactor in
                for case let connection as DeviceConnection in reactor.sources where isMeant(connection) {
                    connection.checkCredential(on: reactor)
                }
            }
        }
    }

    fileprivate func checkStreams(where isMeant: @escaping @Sendable (HubStream) -> Bool) {
        for mailbox in mailboxes {
            mailbox.send { reactor in
                for stream in Array((Desk.of(reactor)?.streams ?? [:]).values) where isMeant(stream) { stream.checkRights(on: reactor) }
            }
        }
    }
}
