import Store
import Wire

/// Content that is written into the twins of one device at once, without a configuration that stays
/// (`POST /devices/{id}/applyConfigurationContent`, service-rest 13).
package struct AppliedContent: Equatable, Sendable {
    private let modules: [String: TwinChange]
    private let device: TwinChange?

    /// Reads the body: `modulesContent` for an Edge device, `deviceContent` for any.
    package init(json: JSONValue) throws(RegistryError) {
        guard json.object != nil else { throw .argumentInvalid("the body is not an object") }
        if let content = json["moduleContent"]?.object, !content.isEmpty {
            throw .argumentInvalid("moduleContent does not say which module; modulesContent does")
        }
        var modules: [String: TwinChange] = [:]
        if let content = json["modulesContent"], !content.isNull {
            guard let members = content.object else { throw .argumentInvalid("modulesContent is not an object") }
            for (module, content) in members {
                let desired = try ConfigurationContent.desired(ofModule: module, content)
                modules[module] = TwinChange(desired: ConfigurationContent.isWhole(content) ? .replace(desired) : .merge(desired))
            }
        }
        var device: TwinChange?
        if let content = json["deviceContent"], !content.isNull {
            guard let members = content.object else { throw .argumentInvalid("deviceContent is not an object") }
            let desired = try ConfigurationContent.desired(members, "deviceContent")
            device = TwinChange(desired: ConfigurationContent.isWhole(content) ? .replace(desired) : .merge(desired))
        }
        guard !modules.isEmpty || device != nil else { throw .argumentNull("there is no content") }
        (self.modules, self.device) = (modules, device)
    }

    fileprivate func write(to name: ClientIdentity, in transaction: borrowing WriteTransaction, now: Timestamp) throws(RegistryError) {
        let identity = try Registry.require(name, in: transaction)
        guard modules.isEmpty || identity.isEdge else {
            throw .invalidOperation("\(name) is no Edge device, so modulesContent is not for it")
        }
        for (module, change) in modules.sorted(by: { $0.key < $1.key }) {
            guard let place = ClientIdentity(deviceID: name.deviceID, moduleID: module) else { continue }
            try Registry.createEdgeModule(place, in: transaction, now: now)
            try Registry.changeTwin(place, change, .any, in: transaction, now: now)
        }
        if let device { try Registry.changeTwin(name, device, .any, in: transaction, now: now) }
    }
}

extension Registry {
    static func apply(
        _ content: AppliedContent, to device: String, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) {
        try content.write(to: try deviceName(device), in: transaction, now: now)
    }
}
