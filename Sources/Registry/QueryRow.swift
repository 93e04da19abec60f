import Query
import Store
import Wire

/// Which records a query needs to see: a look at the id alone needs none.
struct QuerySight: Sendable {
    struct Needs: Equatable, Sendable {
        var identity = false, twin = false

        init(_ roots: Set<String>) {
            identity = !roots.isDisjoint(with: TwinDocument.identityMembers)
            twin = !roots.isDisjoint(with: TwinDocument.twinMembers)
        }
    }

    let condition: Needs
    let selection: Needs

    init(_ query: Query) {
        condition = Needs(query.conditionRoots)
        selection =
            query.selection == .everything
            ? Needs(TwinDocument.identityMembers.union(TwinDocument.twinMembers)) : Needs(query.selectionRoots)
    }
}

/// A twin as queries look at it: its parts are read when they are needed.
struct QueryRow: QueryDocument {
    let name: ClientIdentity
    let live: @Sendable (ClientIdentity) -> LiveState?
    private var identity: Identity?
    /// A module's device.
    private var device: Identity?
    private var twin: Twin?
    /// About how long the records were.
    private(set) var bytes = 64

    init(name: ClientIdentity, live: @escaping @Sendable (ClientIdentity) -> LiveState?) {
        self.name = name
        self.live = live
    }

    /// Reads what is needed and not there yet.
    ///
    /// - Parameter known: the device of the row before, which is often this one's too.
    mutating func load(
        _ needs: QuerySight.Needs, device known: inout Identity?, in transaction: borrowing ReadTransaction
    ) throws(RegistryError) {
        if needs.identity, identity == nil {
            identity = try Registry.require(name, in: transaction)
            if name.moduleID == nil {
                device = identity
            } else {
                if known?.name.deviceID != name.deviceID {
                    known = try Registry.require(try Registry.deviceName(name.deviceID), in: transaction)
                }
                device = known
            }
        }
        guard needs.twin, twin == nil else { return }
        let found: (Twin, Int)? = try Registry.stored { () throws(StoreError) in
            try transaction.lend(.twins, name.key) { bytes throws(StoreError) in
                (try Registry.decode(twin: bytes), bytes.byteCount)
            }
        }
        guard let found else { throw .store(.damaged(path: "registry", reason: "a twin is missing")) }
        twin = found.0
        bytes += found.1
    }

    func member(_ root: String) -> JSONValue? {
        switch root {
        case "deviceId": .string(name.deviceID)
        case "moduleId": name.moduleID.map { .string($0) }
        case "connectionState", "lastActivityTime", "cloudToDeviceMessageCount":
            TwinDocument.member(root, identity: nil, device: nil, twin: nil, live: live(name))
        default: TwinDocument.member(root, identity: identity, device: device, twin: twin, live: nil)
        }
    }

    /// The whole document; everything must have been loaded.
    var document: JSONValue {
        guard let identity, let device, let twin else { return ["deviceId": .string(name.deviceID)] }
        return TwinDocument(identity: identity, device: device, twin: twin).json(live: live(name))
    }
}
