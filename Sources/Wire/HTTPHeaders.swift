import Bytes

/// Header fields in their order; names are compared without regard to case (RFC 9110 section 5.1).
package struct HTTPHeaders: Equatable, Sendable {
    package struct Field: Equatable, Sendable {
        package var name, value: String

        package init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    package private(set) var fields: [Field] = []

    package init() {}

    package init(_ fields: [(String, String)]) {
        self.fields = fields.map { Field(name: $0.0, value: $0.1) }
    }

    package var count: Int { fields.count }

    package mutating func reserveCapacity(_ count: Int) {
        fields.reserveCapacity(count)
    }

    /// The value of the first field of this name. Assigning replaces all of them, nil removes them.
    package subscript(name: String) -> String? {
        get {
            for field in fields where ASCII.equalIgnoringCase(field.name, name) { return field.value }
            return nil
        }
        set {
            remove(name)
            if let newValue { add(name, newValue) }
        }
    }

    /// The values of every field of this name, in order.
    package func all(_ name: String) -> [String] {
        var values: [String] = []
        for field in fields where ASCII.equalIgnoringCase(field.name, name) { values.append(field.value) }
        return values
    }

    /// How many fields have this name.
    package func count(of name: String) -> Int {
        var count = 0
        for field in fields where ASCII.equalIgnoringCase(field.name, name) { count += 1 }
        return count
    }

    package func contains(_ name: String) -> Bool {
        count(of: name) > 0
    }

    /// The value of the only field of this name; nil when there is none or more than one.
    package func single(_ name: String) -> String? {
        count(of: name) == 1 ? self[name] : nil
    }

    package mutating func add(_ name: String, _ value: String) {
        fields.append(Field(name: name, value: value))
    }

    package mutating func remove(_ name: String) {
        fields.removeAll { ASCII.equalIgnoringCase($0.name, name) }
    }

    /// Whether one of the comma-separated members of the fields of this name is `token`, case aside: `Connection: keep-alive, Upgrade`.
    package func hasToken(_ token: String, in name: String) -> Bool {
        for field in fields where ASCII.equalIgnoringCase(field.name, name) {
            let value = field.value.utf8Span.span.bytes
            var start = 0
            while start <= value.byteCount {
                let end = value.firstIndex(of: UInt8(ascii: ","), from: start) ?? value.byteCount
                let member = HTTPSyntax.trimmed(value, start..<end)
                if ASCII.equalIgnoringCase(value.extracting(member), token) { return true }
                start = end + 1
            }
        }
        return false
    }

    /// The comma-separated members of all fields of this name, trimmed, empty ones left out (RFC 9110 section 5.6.1).
    package func tokens(in name: String) -> [String] {
        var members: [String] = []
        for value in all(name) {
            for part in value.utf8.split(separator: UInt8(ascii: ",")) {
                let blank: (UInt8) -> Bool = { $0 == 0x20 || $0 == 0x09 }
                let trimmed = part.drop(while: blank)
                let blanks = trimmed.reversed().prefix(while: blank).count
                if trimmed.count > blanks { members.append(String(Substring(trimmed.dropLast(blanks)))) }
            }
        }
        return members
    }
}

extension HTTPHeaders: ExpressibleByDictionaryLiteral {
    package init(dictionaryLiteral elements: (String, String)...) {
        self.init(elements)
    }
}
