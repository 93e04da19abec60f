/// What is wrong with a configuration file, and in which line. Names keys, never values: some are secret.
package struct ConfigurationError: Error, Equatable, CustomStringConvertible {
    /// From 1.
    package let line: Int
    package let reason: String

    package init(line: Int, reason: String) {
        self.line = line
        self.reason = reason
    }

    /// `LINE: REASON`, to stand behind a path and a colon.
    package var description: String { "\(line): \(reason)" }
}

/// A configuration file that its schema has found in order (DESIGN 5).
///
///     # a comment
///     state /var/lib/iotstream
///     https [::]:443 127.0.0.1:8443
///     drain-seconds 10s
///     greeting "a # that is no comment"
///     [certificate hub.example.net]
///     file "/etc/iotstream/hub.pem"
package struct Configuration: Equatable, Sendable {
    /// The keys below one header, or above the first.
    package struct Section: Equatable, Sendable {
        /// Empty for the part above the first header.
        package let name: String
        package let title: String?
        /// The header's line, from 1; 0 above the first.
        package let line: Int
        fileprivate(set) var values: [String: [ConfigurationValue]] = [:]
        fileprivate(set) var lines: [String: Int] = [:]
        fileprivate var valueLines: [String: [Int]] = [:]

        fileprivate init(name: String, title: String?, line: Int) {
            self.name = name
            self.title = title
            self.line = line
        }

        package func text(_ key: String) -> String? { if case .text(let value)? = values[key]?.first { value } else { nil } }
        package func integer(_ key: String) -> Int? { if case .integer(let value)? = values[key]?.first { value } else { nil } }
        package func seconds(_ key: String) -> Int? { if case .seconds(let value)? = values[key]?.first { value } else { nil } }
        package func bytes(_ key: String) -> Int? { if case .bytes(let value)? = values[key]?.first { value } else { nil } }
        /// Bytes per second; 0 for no limit.
        package func rate(_ key: String) -> Int? { if case .rate(let value)? = values[key]?.first { value } else { nil } }
        /// Nil also where nothing is limited.
        package func frequency(_ key: String) -> Frequency? {
            if case .frequency(let value)? = values[key]?.first { value } else { nil }
        }
        package func boolean(_ key: String) -> Bool? { if case .boolean(let value)? = values[key]?.first { value } else { nil } }
        package func address(_ key: String) -> ListenAddress? { addresses(key).first }

        /// Every value of a list of texts, in order; empty when the key is absent.
        package func texts(_ key: String) -> [String] {
            (values[key] ?? []).compactMap { if case .text(let value) = $0 { value } else { nil } }
        }

        package func addresses(_ key: String) -> [ListenAddress] {
            (values[key] ?? []).compactMap { if case .address(let value) = $0 { value } else { nil } }
        }

        /// The lines of a list's values, in their order.
        package func lines(of key: String) -> [Int] { valueLines[key] ?? [] }

        /// The line in which a key stands first, for errors that only the role can find.
        package func line(of key: String) -> Int { lines[key] ?? line }
    }

    /// The part above the first header.
    package private(set) var top = Section(name: "", title: nil, line: 0)
    package private(set) var sections: [Section] = []

    /// The sections with a name, in order.
    package func sections(_ name: String) -> [Section] { sections.filter { $0.name == name } }

    /// Reads a whole file; the first error ends it.
    package init(parsing text: String, schema: ConfigurationSchema) throws(ConfigurationError) {
        var keys = schema.keys, number = 0
        let codes = text.utf8.starts(with: [0xEF, 0xBB, 0xBF]) ? text.utf8.dropFirst(3) : text.utf8[...]
        for written in codes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            number += 1
            var line = ConfigurationLine(Substring(written), number: number)
            guard !line.isEmpty else { continue }
            if let header = try line.header() {
                let section = try Self.section(header, number, schema)
                guard !sections.contains(where: { $0.name == header.name && $0.title == header.title }) else {
                    throw ConfigurationError(line: number, reason: "section [\(header.name)] comes twice")
                }
                sections.append(Section(name: header.name, title: header.title, line: number))
                keys = section.keys
                continue
            }
            let name = line.word()
            guard let key = keys.first(where: { $0.name == name }) else {
                throw ConfigurationError(line: number, reason: Self.unknown(name, in: sections.last))
            }
            let values = try line.values(of: key)
            if sections.isEmpty {
                try Self.add(values, of: key, to: &top, number)
            } else {
                try Self.add(values, of: key, to: &sections[sections.count - 1], number)
            }
        }
    }

    private static func section(
        _ header: (name: String, title: String?), _ number: Int, _ schema: ConfigurationSchema
    ) throws(ConfigurationError) -> ConfigurationSchema.Section {
        guard let section = schema.sections.first(where: { $0.name == header.name }) else {
            throw ConfigurationError(line: number, reason: "unknown section")
        }
        guard section.hasTitle == (header.title != nil) else {
            throw ConfigurationError(
                line: number,
                reason: section.hasTitle ? "section [\(section.name)] needs a title" : "section [\(section.name)] takes no title")
        }
        return section
    }

    /// Repeats a word only when it looks like a key.
    private static func unknown(_ name: String, in section: Section?) -> String {
        let place = section.map { " in section [\($0.name)]" } ?? ""
        guard name.utf8.count <= 32, Identifier.isValidPolicyName(name) else { return "unknown key" + place }
        return "unknown key \(name)" + place
    }

    private static func add(
        _ values: [ConfigurationValue], of key: ConfigurationSchema.Key, to section: inout Section, _ number: Int
    ) throws(ConfigurationError) {
        if let earlier = section.lines[key.name] {
            guard key.isList else { throw ConfigurationError(line: number, reason: "\(key.name) stands in line \(earlier) already") }
        } else {
            section.lines[key.name] = number
        }
        section.values[key.name, default: []] += values
        section.valueLines[key.name, default: []] += values.map { _ in number }
    }
}
