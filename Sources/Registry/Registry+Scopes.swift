import Store
import Wire

/// A device's own scope or its parent's, and the scopes above it (edge-gateway 6).
struct Scopes: Equatable {
    var device: String?
    var parents: [String] = []
}

extension Registry {
    private static let scopePrefix = "ms-azure-iot-edge://"
    private static let deepestNesting = 16

    /// The scopes that a device gets: an Edge device its own, and its parent's; a leaf its parent's in both places.
    static func resolveScopes(
        _ name: ClientIdentity, _ request: IdentityRequest, _ generation: String, in transaction: borrowing WriteTransaction
    ) throws(RegistryError) -> Scopes {
        guard request.parentScopes.count <= 1 else { throw .argumentInvalid("a device has one parent at the most") }
        var wanted = request.parentScopes.first.flatMap { $0.isEmpty ? nil : $0 }
        if !request.isEdge { wanted = request.deviceScope ?? wanted }
        if let parent = request.parent {
            let edge = try require(try deviceName(parent), in: transaction)
            guard let scope = ownScope(of: edge) else { throw .argumentInvalid("\(parent) is no Edge device, so no parent") }
            wanted = scope
        }
        let own = "\(scopePrefix)\(name.deviceID)-\(generation)"
        guard let wanted else { return Scopes(device: request.isEdge ? own : nil) }
        let parent = try self.parent(of: wanted, in: transaction)
        guard parent.name != name else { throw .argumentInvalid("a device is not its own parent") }
        try checkAncestors(of: parent, without: name, in: transaction)
        try checkChildren(parent, of: name, scope: wanted, in: transaction)
        return Scopes(device: request.isEdge ? own : wanted, parents: [wanted])
    }

    static func ownScope(of identity: Identity) -> String? {
        identity.isEdge ? "\(scopePrefix)\(identity.name.deviceID)-\(identity.generationID)" : nil
    }

    /// The Edge device of a scope, or a refusal.
    private static func parent(
        of scope: String, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(RegistryError) -> Identity {
        guard let name = scopeDevice(scope), let identity = try find(name, in: transaction), ownScope(of: identity) == scope else {
            throw .argumentInvalid("no Edge device has the scope \(scope)")
        }
        return identity
    }

    /// The device that a scope speaks of.
    static func scopeDevice(_ scope: String) -> ClientIdentity? {
        guard scope.hasPrefix(scopePrefix), let dash = scope.lastIndex(of: "-") else { return nil }
        let start = scope.index(scope.startIndex, offsetBy: scopePrefix.count)
        return start < dash ? ClientIdentity(deviceID: String(scope[start..<dash])) : nil
    }

    private static func checkAncestors(
        of parent: Identity, without name: ClientIdentity, in transaction: borrowing WriteTransaction
    ) throws(RegistryError) {
        var ancestor: Identity? = parent
        var depth = 0
        while let scope = ancestor?.parentScopes.first, let above = scopeDevice(scope) {
            depth += 1
            guard above != name, depth < deepestNesting else { throw .argumentInvalid("the parents form a ring or nest too deep") }
            ancestor = try find(above, in: transaction)
        }
    }

    private static func checkChildren(
        _ parent: Identity, of name: ClientIdentity, scope: String, in transaction: borrowing WriteTransaction
    ) throws(RegistryError) {
        if let existing = try find(name, in: transaction), existing.parentScopes.first == scope { return }
        let count = try stored { () throws(StoreError) in try transaction.counter(childCounter(parent.name)) }
        guard count < UInt64(mostChildren) else {
            throw .argumentInvalid("\(parent.name) has \(mostChildren) children, the most that a device may have")
        }
    }

    private static func childCounter(_ name: ClientIdentity) -> String { "children/\(name.deviceID)" }

    /// Keeps the parents' numbers of children; a deleted device's own number goes with it.
    static func countChildren(
        from old: Identity?, to new: Identity?, in transaction: borrowing WriteTransaction
    ) throws(StoreError) {
        let name = old?.name ?? new?.name
        if new == nil, let name { try transaction.delete(.meta, childCounter(name)) }
        let was = old?.parentScopes.first, becomes = new?.parentScopes.first
        guard was != becomes else { return }
        if let was, let parent = scopeDevice(was) {
            let count = try transaction.counter(childCounter(parent))
            if count > 0 { try transaction.setCounter(childCounter(parent), count - 1) }
        }
        if let becomes, let parent = scopeDevice(becomes) {
            try transaction.setCounter(childCounter(parent), try transaction.counter(childCounter(parent)) &+ 1)
        }
    }
}
