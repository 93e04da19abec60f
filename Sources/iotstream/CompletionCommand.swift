import Console

/// `iotstream completion bash|zsh|fish`.
enum CompletionCommand {
    static let command = Command(
        name: "completion", summary: "prints a shell's completion script",
        details: "The installer puts the scripts where the shells look for them; this is for everybody else.",
        operands: [
            Operand("SHELL", .one, "bash, zsh or fish", completion: .words(CompletionScript.Shell.allCases.map(\.rawValue)))
        ],
        examples: [Example("source <(iotstream completion bash)", "completes in this shell, until it ends")],
        run: run)

    @Sendable private static func run(_ arguments: Arguments) throws(Failure) {
        let word = try arguments.required("SHELL")
        guard let shell = CompletionScript.Shell(rawValue: word) else {
            throw .usage("\(word): no such shell", "one of bash, zsh, fish")
        }
        try Output.write(CompletionScript.text(for: shell, roles: Role.all, linked: Role.linked))
    }
}
