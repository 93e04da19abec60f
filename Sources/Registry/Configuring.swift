import Bytes
import Store
import Wire

// Bringing twins to what configurations say of them.

extension Registry {
    /// What the set says of an identity, and the twin in which that stands; nil when it is not there, or no configuration is about it.
    private static func verdict(
        on name: ClientIdentity, _ set: ConfigurationSet, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(RegistryError) -> (verdict: ConfigurationSet.Verdict, twin: Twin)? {
        guard try find(name, in: transaction) != nil else { return nil }
        let document = try twinDocument(name, in: transaction)
        guard name.moduleID == ConfigurationContent.agent, document.device.isEdge else {
            let seen = LiveTwin(document: document, live: set.state(name))
            return (set.verdict(name.moduleID == nil ? .devices : .modules, on: seen), document.twin)
        }
        let device = document.device.name
        let seen = LiveTwin(document: try twinDocument(device, in: transaction), live: set.state(device))
        return (set.verdict(.edgeModules, on: seen), document.twin)
    }

    static func configure(
        _ name: ClientIdentity, _ set: ConfigurationSet, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) {
        guard let (verdict, twin) = try verdict(on: name, set, in: transaction), !verdict.agrees(with: twin) else { return }
        let old = set.desired(set.known(twin.appliedConfigurations)), new = set.desired(verdict.applied)
        var shown = verdict.shown, numbers = verdict.numbers
        if old != new || twin.appliedConfigurations != numbers {
            do {
                for module in Set(old.keys).union(new.keys).sorted() {
                    let place = module.isEmpty ? name : ClientIdentity(deviceID: name.deviceID, moduleID: module)
                    guard let place else { continue }
                    try write(new[module] ?? JSONObject(), inPlaceOf: old[module] ?? JSONObject(), place, in: transaction, now: now)
                }
            } catch {
                if case .store = error { throw error }
                // Its content is too much for this twin: it stays as it was, and the configuration is only meant for it.
                // Of several modules some may have theirs: what is taken back later is both.
                let old = twin.appliedConfigurations
                numbers = name.moduleID == ConfigurationContent.agent ? old + numbers.filter { !old.contains($0) } : old
                for (id, _) in shown { shown[id] = ["status": "Targeted"] }
            }
        }
        var changed = try self.twin(name, in: transaction)
        guard changed.configurations != shown || changed.appliedConfigurations != numbers else { return }
        changed.configurations = shown
        changed.appliedConfigurations = numbers
        try save(changed, of: name, in: transaction)
    }

    /// Replaces what one content wrote by what another writes; a module of an Edge device that is missing is made.
    private static func write(
        _ new: JSONObject, inPlaceOf old: JSONObject, _ name: ClientIdentity, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) {
        if try find(name, in: transaction) == nil {
            guard !new.isEmpty, name.moduleID != nil else { return }
            try createEdgeModule(name, in: transaction, now: now)
        }
        let current = try twin(name, in: transaction).desired.content
        let patch = ConfigurationContent.overlaid(ConfigurationContent.removal(of: old, butNot: new, from: current), with: new)
        guard !patch.isEmpty else { return }
        try changeTwin(name, TwinChange(desired: .merge(patch)), .any, in: transaction, now: now)
    }

    // MARK: - Looking

    /// What a stretch of the identities has in it.
    package struct ConfigurationSurvey: Sendable {
        /// Twins that are not as they should be.
        package var names: [ClientIdentity] = []
        /// Per configuration's number.
        package var targeted: [UInt64: Int] = [:], applied: [UInt64: Int] = [:]
        /// Where the next stretch begins; nil at the end.
        package var next: Place? = Place()

        /// A place among devices and then modules.
        package struct Place: Equatable, Sendable {
            var isAmongModules = false
            var last: String?
            package init() {}
        }

        package init() {}
    }

    /// Looks at identities named by hand, for those that are not as they should be: with a device also at its Edge agent.
    package func survey(_ names: some Sequence<ClientIdentity>, _ set: ConfigurationSet) throws(RegistryError) -> [ClientIdentity] {
        try read { transaction throws(RegistryError) in
            var survey = ConfigurationSurvey()
            for name in names { try Self.look(at: name, set, &survey, in: transaction) }
            return survey.names
        }
    }

    /// Looks at the next identities, at most `most` records, and adds to what was found before.
    package func survey(_ survey: inout ConfigurationSurvey, _ set: ConfigurationSet, most: Int = 500) throws(RegistryError) {
        guard let place = survey.next else { return }
        var found = survey
        try read { transaction throws(RegistryError) in
            var keys: [String] = []
            try Self.stored { () throws(StoreError) in
                try transaction.scan(place.isAmongModules ? .modules : .devices, from: place.last.map { "\($0)\0" }) {
                    key, _ throws(StoreError) in
                    keys.append(key.toString() ?? "")
                    return keys.count < most
                }
            }
            for key in keys {
                let ids = key.split(separator: "\0", maxSplits: 1).map(String.init)
                guard let first = ids.first, let name = ClientIdentity(deviceID: first, moduleID: ids.count > 1 ? ids[1] : nil) else {
                    continue
                }
                // An agent was looked at with its device.
                if place.isAmongModules, name.moduleID == ConfigurationContent.agent { continue }
                try Self.look(at: name, set, &found, in: transaction)
            }
            found.next?.last = keys.last
            guard keys.count < most else { return }
            found.next = nil
            if !place.isAmongModules, set.concerns(.modules) {
                found.next = ConfigurationSurvey.Place()
                found.next?.isAmongModules = true
            }
        }
        survey = found
    }

    private static func look(
        at name: ClientIdentity, _ set: ConfigurationSet, _ survey: inout ConfigurationSurvey,
        in transaction: borrowing some Snapshot & ~Copyable
    ) throws(RegistryError) {
        guard let (verdict, twin) = try verdict(on: name, set, in: transaction) else { return }
        for configuration in verdict.targeted { survey.targeted[configuration.number, default: 0] += 1 }
        // One that should stand in the twin and is only meant for it had no room there, or comes to stand there just now.
        for configuration in verdict.applied
        where verdict.agrees(with: twin) || twin.configurations[configuration.id]?["status"]?.string != "Targeted" {
            survey.applied[configuration.number, default: 0] += 1
        }
        if !verdict.agrees(with: twin) { survey.names.append(name) }
        if name.moduleID == nil, set.concerns(.edgeModules), try find(name, in: transaction)?.isEdge == true,
            let agent = ClientIdentity(deviceID: name.deviceID, moduleID: ConfigurationContent.agent)
        {
            try look(at: agent, set, &survey, in: transaction)
        }
    }
}
