extension Command {
    /// Runs the command with the words that follow it, and tells the process's exit status.
    ///
    /// Parses, serves `--help` and `--version`, sets the log's level, runs, flushes; a `Failure` becomes its line on standard error.
    package func launch(_ words: [String], version: String) -> CInt {
        do throws(Failure) {
            switch try CommandLineParser.parse(words, for: self) {
            case .help(let command, let path): try Output.write(Help.page(for: command, path: path))
            case .version: try Output.line("iotstream \(version)")
            case .run(let command, let arguments):
                Output.setQuiet(arguments.flag("quiet"))
                Log.start(role: name, level: command.level(for: arguments))
                try command.run?(arguments)
            }
            try Output.flush()
            return 0
        } catch {
            try? Output.flush()  // what came before the failure is still a result
            Output.report(error, role: name)
            return error.exitCode
        }
    }

    private func level(for arguments: Arguments) -> Log.Level {
        if arguments.flag("quiet") { return .error }
        return Log.Level(rawValue: min(logLevel.rawValue + arguments.count("verbose"), Log.Level.debug.rawValue)) ?? logLevel
    }
}
