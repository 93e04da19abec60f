/// What `--help` prints: 80 columns, the same every time.
package enum Help {
    static let width = 80

    /// The page of one command.
    package static func page(for command: Command, path: String) -> String {
        var lines = usage(of: command, path: path)
        lines += [""] + Table.wrap(capitalised(command.summary) + ".", width: width)
        if !command.details.isEmpty { lines += [""] + Table.wrap(command.details, width: width) }
        let described = command.operands.filter { !$0.summary.isEmpty }
        if !described.isEmpty {
            lines += ["", "Operands:"]
            for operand in described { lines += entry(operand.name, operand.summary) }
        }
        if !command.subcommands.isEmpty {
            lines += ["", "Commands:"]
            for each in command.subcommands { lines += entry(([each.name] + each.operands.map(form)).joined(separator: " "), each.summary) }
        }
        lines += ["", "Options:"]
        for option in command.options + CommandLineParser.everywhere { lines += entry(form(option), option.summary) }
        if !command.examples.isEmpty {
            lines += ["", "Examples:"]
            for example in command.examples {
                let parts = Table.wrap(example.line, width: width - 10)
                lines += parts.enumerated().map { index, part in
                    (index == 0 ? "    " : "        ") + part + (index < parts.count - 1 ? " \\" : "")
                }
                lines += Table.wrap(example.meaning, width: width - 8).map { "        " + $0 }
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// The page of the executable itself.
    package static func overview(of roles: [Command]) -> String {
        var lines = ["usage: iotstream ROLE [OPTION]... [OPERAND]...", "", "Roles:"]
        for role in roles { lines += entry(role.name, role.summary) }
        lines += ["", "'iotstream ROLE --help' tells about one of them, 'iotstream --version' the version."]
        return lines.joined(separator: "\n") + "\n"
    }

    private static func usage(of command: Command, path: String) -> [String] {
        var words = ["[OPTION]..."]
        words += command.subcommands.isEmpty ? command.operands.map(form) : ["COMMAND", "..."]
        let start = "usage: iotstream \(path) "
        let indent = String(repeating: " ", count: start.count)
        let lines = Table.wrap(words.joined(separator: " "), width: width - start.count)
        return lines.enumerated().map { ($0.offset == 0 ? start : indent) + $0.element }
    }

    private static func form(_ operand: Operand) -> String {
        switch operand.arity {
        case .one: operand.name
        case .optional: "[\(operand.name)]"
        case .many: "[\(operand.name)]..."
        case .oneOrMore: "\(operand.name)..."
        }
    }

    private static func form(_ option: Option) -> String {
        let short = option.short.map { "-\($0), " } ?? ""
        let long =
            switch option.value {
            case .none: "--\(option.name)"
            case .required(let placeholder): "--\(option.name) \(placeholder)"
            }
        return short + long + (option.repeats ? " ..." : "")
    }

    private static func entry(_ term: String, _ text: String) -> [String] {
        let indent = 26
        var lines = Table.wrap(text, width: width - indent).map { String(repeating: " ", count: indent) + $0 }
        let head = "  " + term
        guard head.count + 2 <= indent, let first = lines.first else { return [head] + lines }
        lines[0] = head + first.dropFirst(head.count)
        return lines
    }

    private static func capitalised(_ text: String) -> String { text.prefix(1).uppercased() + text.dropFirst() }
}
