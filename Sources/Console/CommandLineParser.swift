import CLinux
import Glibc

/// From words to `Arguments`, by a command's table, with libc's `getopt_long`.
///
/// Its state is global, so this runs on one thread, before any other starts.
package enum CommandLineParser {
    /// What a command line asks for.
    package enum Request { case run(Command, Arguments), help(Command, path: String), version }

    /// Understood by every command.
    static let everywhere: [Option] = [
        .flag("help", short: "h", "show this help"),
        .flag("quiet", short: "q", "say less"),
        .flag("verbose", short: "v", "say more; twice for everything"),
        .flag("version", "show the version"),
    ]

    /// - Parameters:
    ///   - words: what follows the role.
    ///   - command: the role's table.
    package static func parse(_ words: [String], for command: Command) throws(Failure) -> Request {
        var values: [String: [String?]] = [:]
        var command = command
        var options = command.options
        var words = words
        let role = command.name
        var path = command.name
        while true {
            let operands = try parseOptions(
                words, options + everywhere, stopsAtFirstOperand: command.stopsAtFirstOperand, path: path, into: &values)
            if values["help"] != nil { return .help(inheriting(command, options), path: path) }
            if values["version"] != nil { return .version }
            guard command.run == nil else {
                let isAlone = operands.isEmpty && options.contains { $0.standsAlone && values[$0.name] != nil }
                let dealt = isAlone ? [:] : try deal(operands, to: command, path: path)
                return .run(command, Arguments(role: role, path: path, values: values, operands: operands, operandsByName: dealt))
            }
            guard let word = operands.first else {
                throw .usage("a command is missing", "one of \(command.subcommands.map(\.name).joined(separator: ", "))")
            }
            guard let next = command.subcommands.first(where: { $0.name == word }) else {
                throw .usage("\(word): no such command", hint(for: word, among: command.subcommands.map(\.name)))
            }
            command = next
            options += next.options
            path += " " + next.name
            words = Array(operands.dropFirst())
        }
    }

    private static func inheriting(_ command: Command, _ options: [Option]) -> Command {
        var command = command
        command.options = options
        return command
    }

    private static func parseOptions(
        _ words: [String], _ options: [Option], stopsAtFirstOperand: Bool, path: String, into values: inout [String: [String?]]
    ) throws(Failure) -> [String] {
        var shorts = stopsAtFirstOperand ? "+:" : ":"
        for option in options {
            guard let short = option.short else { continue }
            shorts.append(short)
            switch option.value {
            case .none: break
            case .required: shorts += ":"
            }
        }
        let kinds: [CInt] = options.map { option in
            switch option.value {
            case .none: 0
            case .required: 1
            }
        }
        let names = options.map { strdup($0.name) }
        let vector = (["iotstream"] + words).map { strdup($0) }
        defer { for text in names + vector { free(text) } }
        var arguments = vector + [nil]
        let argumentCount = CInt(clamping: vector.count)

        var isFirst: CInt = 1
        while true {
            let step = clx_next_option(argumentCount, &arguments, shorts, names, kinds, CInt(clamping: names.count), isFirst)
            isFirst = 0
            switch step.code {
            case -1:
                let rest = arguments.dropFirst(Int(step.next)).prefix(while: { $0 != nil })
                return rest.compactMap { $0.map { String(cString: $0) } }
            case CInt(UInt8(ascii: "?")), CInt(UInt8(ascii: ":")):
                throw complaint(step, arguments, options, path: path)
            default:
                guard let option = option(for: step.code, in: options) else { throw .software("option \(step.code) has no entry") }
                values[option.name, default: []].append(step.value.map { String(cString: $0) })
            }
        }
    }

    private static func option(for code: CInt, in options: [Option]) -> Option? {
        if code >= 256 { return options.indices.contains(Int(code) - 256) ? options[Int(code) - 256] : nil }
        guard let letter = UInt8(exactly: code) else { return nil }
        return options.first { $0.short == Character(Unicode.Scalar(letter)) }
    }

    private static func complaint(
        _ step: clx_option, _ arguments: [UnsafeMutablePointer<CChar>?], _ options: [Option], path: String
    ) -> Failure {
        let help = "see iotstream \(path) --help"
        let known = step.culprit == 0 ? nil : option(for: step.culprit, in: options)
        if step.code == CInt(UInt8(ascii: ":")), let known {
            return .usage("--\(known.name) needs a value", help)
        }
        if step.culprit >= 256, let known { return .usage("--\(known.name) takes no value", help) }
        if step.culprit != 0, let letter = UInt8(exactly: step.culprit) {
            return .usage("unknown option -\(Character(Unicode.Scalar(letter)))", help)
        }
        let index = Int(step.next) - 1
        let word = arguments.indices.contains(index) ? arguments[index].map { String(cString: $0) } ?? "" : ""
        let name = String(word.drop { $0 == "-" }.prefix { $0 != "=" })
        let candidates = options.map(\.name)
        if !name.isEmpty, candidates.count(where: { $0.hasPrefix(name) }) > 1 {
            let fits = candidates.filter { $0.hasPrefix(name) }.map { "--" + $0 }
            return .usage("--\(name) is ambiguous", "one of \(fits.joined(separator: ", "))")
        }
        guard let near = nearest(to: name, among: candidates) else { return .usage("unknown option --\(name)", help) }
        return .usage("unknown option --\(name)", "did you mean --\(near)?")
    }

    /// Deals the words out to the operands' names; the one operand that takes several gets what the others leave.
    private static func deal(_ words: [String], to command: Command, path: String) throws(Failure) -> [String: [String]] {
        let help = "see iotstream \(path) --help"
        var result: [String: [String]] = [:]
        var rest = words[...]
        var spare = words.count - command.operands.count { $0.arity == .one || $0.arity == .oneOrMore }
        for (index, operand) in command.operands.enumerated() {
            let later = command.operands[(index + 1)...].count { $0.arity == .one || $0.arity == .oneOrMore }
            switch operand.arity {
            case .one:
                guard let word = rest.popFirst() else { throw .usage("\(operand.name) is missing", help) }
                result[operand.name] = [word]
            case .optional:
                guard spare > 0, let word = rest.popFirst() else { continue }
                spare -= 1
                result[operand.name] = [word]
            case .many, .oneOrMore:
                let taken = rest.prefix(max(0, rest.count - later))
                guard !taken.isEmpty || operand.arity == .many else { throw .usage("\(operand.name) is missing", help) }
                result[operand.name] = Array(taken)
                rest = rest.dropFirst(taken.count)
            }
        }
        if let word = rest.first { throw .usage("\(word): one word too many", help) }
        return result
    }

    /// `did you mean create?`, or the whole list.
    package static func hint(for word: String, among words: [String]) -> String {
        nearest(to: word, among: words).map { "did you mean \($0)?" } ?? "one of \(words.joined(separator: ", "))"
    }

    private static func nearest(to word: String, among words: [String]) -> String? {
        let close = words.map { (word: $0, distance: distance(word, $0)) }.min { $0.distance < $1.distance }
        guard let close, close.distance <= 2, close.distance < word.count else { return nil }
        return close.word
    }

    /// Levenshtein's distance, of at most 32 characters each.
    private static func distance(_ left: String, _ right: String) -> Int {
        let (left, right) = (Array(left.prefix(32)), Array(right.prefix(32)))
        var row = Array(0...right.count)
        for (index, letter) in left.enumerated() {
            var diagonal = row[0]
            row[0] = index + 1
            for column in right.indices {
                let cost = diagonal + (letter == right[column] ? 0 : 1)
                diagonal = row[column + 1]
                row[column + 1] = min(cost, row[column] + 1, diagonal + 1)
            }
        }
        return row[right.count]
    }
}
