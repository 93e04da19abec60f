/// One command as data: the table from which the command line is parsed, `--help` printed and shell completions made.
///
/// A command either runs or has subcommands. Options of a command with subcommands belong to each of them as well, and may stand
/// before or after the subcommand's word. `--help`, `--version`, `-q` and `-v` are understood everywhere and need not be listed.
package struct Command: Sendable {
    /// The word: `hub`, `create`.
    package var name: String
    /// One line, lower case, no full stop.
    package var summary: String
    /// Paragraphs for `--help`, separated by empty lines; lines that start with a space stand as they are.
    package var details: String
    package var options: [Option]
    package var operands: [Operand]
    package var subcommands: [Command]
    package var examples: [Example]
    /// Everything from the first operand on belongs to somebody else (`iotstream ssh DEVICE -v`): no option is looked for there.
    package var stopsAtFirstOperand: Bool
    /// What `Log` lets through without `-q` or `-v`.
    package var logLevel: Log.Level
    /// Does the work; returning is exit status 0.
    package var run: (@Sendable (Arguments) throws(Failure) -> Void)?

    package init(
        name: String, summary: String, details: String = "", options: [Option] = [], operands: [Operand] = [],
        examples: [Example] = [], stopsAtFirstOperand: Bool = false, logLevel: Log.Level = .warning,
        run: @escaping @Sendable (Arguments) throws(Failure) -> Void
    ) {
        self.init(name, summary, details, options, operands, [], examples, stopsAtFirstOperand, logLevel, run)
    }

    /// A command that only gathers others.
    package init(
        name: String, summary: String, details: String = "", options: [Option] = [], subcommands: [Command], examples: [Example] = []
    ) {
        self.init(name, summary, details, options, [], subcommands, examples, true, .warning, nil)
    }

    private init(
        _ name: String, _ summary: String, _ details: String, _ options: [Option], _ operands: [Operand], _ subcommands: [Command],
        _ examples: [Example], _ stopsAtFirstOperand: Bool, _ logLevel: Log.Level,
        _ run: (@Sendable (Arguments) throws(Failure) -> Void)?
    ) {
        self.name = name
        self.summary = summary
        self.details = details
        self.options = options
        self.operands = operands
        self.subcommands = subcommands
        self.examples = examples
        self.stopsAtFirstOperand = stopsAtFirstOperand
        self.logLevel = logLevel
        self.run = run
    }
}

/// What the shell offers for a value.
package enum Completion: Sendable, Equatable { case nothing, file, directory, words([String]) }

/// An option of a command.
package struct Option: Sendable {
    package enum Value: Sendable, Equatable { case none, required(String) }

    /// The long name without its dashes.
    package var name: String
    package var short: Character?
    package var value: Value
    package var summary: String
    /// May stand several times; otherwise the last one counts.
    package var repeats: Bool
    package var completion: Completion
    /// With it the command does something else, and wants no operands.
    package var standsAlone = false

    /// `--name`: on when present.
    package static func flag(_ name: String, short: Character? = nil, _ summary: String, standsAlone: Bool = false) -> Option {
        Option(
            name: name, short: short, value: .none, summary: summary, repeats: false, completion: .nothing, standsAlone: standsAlone)
    }

    /// `--name VALUE` or `--name=VALUE`.
    package static func value(
        _ name: String, short: Character? = nil, _ placeholder: String, _ summary: String, repeats: Bool = false,
        completion: Completion = .nothing
    ) -> Option {
        Option(name: name, short: short, value: .required(placeholder), summary: summary, repeats: repeats, completion: completion)
    }
}

/// A word that is not an option.
package struct Operand: Sendable {
    /// How many words: exactly one, none or one, any number, at least one.
    package enum Arity: Sendable { case one, optional, many, oneOrMore }

    /// As help shows it: `DEVICE`.
    package var name: String
    package var arity: Arity
    package var summary: String
    package var completion: Completion

    /// - Note: at most one operand of a command may be `many` or `oneOrMore`.
    package init(_ name: String, _ arity: Arity = .one, _ summary: String = "", completion: Completion = .nothing) {
        self.name = name
        self.arity = arity
        self.summary = summary
        self.completion = completion
    }
}

/// A command line that works as printed, and what it does.
package struct Example: Sendable {
    package var line: String
    package var meaning: String

    package init(_ line: String, _ meaning: String) {
        self.line = line
        self.meaning = meaning
    }
}
