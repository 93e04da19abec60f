/// The members of a JSON object in their order, each key once. Two objects are equal when they have the same members in any order.
package struct JSONObject: Sendable {
    private var members: [(key: String, value: JSONValue)] = []
    /// Where each key stands; kept only for objects long enough to need it.
    private var places: [String: Int]?

    private static let indexedFrom = 16

    package init() {}

    package var count: Int { members.count }
    package var isEmpty: Bool { members.isEmpty }
    package var keys: [String] { members.map(\.key) }
    package var values: [JSONValue] { members.map(\.value) }

    /// A member's value. A new key goes to the end; setting nil removes the member.
    package subscript(key: String) -> JSONValue? {
        get { place(of: key).map { members[$0].value } }
        set {
            switch (place(of: key), newValue) {
            case (let place?, let value?): members[place].value = value
            case (nil, let value?):
                members.append((key, value))
                if places != nil { places?[key] = members.count - 1 } else { indexIfLong() }
            case (let place?, nil):
                members.remove(at: place)
                places = nil
                indexIfLong()
            case (nil, nil): break
            }
        }
    }

    @discardableResult package mutating func removeValue(forKey key: String) -> JSONValue? {
        defer { self[key] = nil }
        return self[key]
    }

    private func place(of key: String) -> Int? {
        if let places { return places[key] }
        return members.firstIndex { $0.key == key }
    }

    private mutating func indexIfLong() {
        guard members.count >= Self.indexedFrom else { return }
        var places: [String: Int] = [:]
        for (place, member) in members.enumerated() { places[member.key] = place }
        self.places = places
    }
}

extension JSONObject: Sequence {
    package func makeIterator() -> IndexingIterator<[(key: String, value: JSONValue)]> { members.makeIterator() }
}

extension JSONObject: Equatable {
    package static func == (one: JSONObject, other: JSONObject) -> Bool {
        one.count == other.count && one.members.allSatisfy { other[$0.key] == $0.value }
    }
}
