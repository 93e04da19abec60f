/// Shell completions made from the tables of the commands.
package enum CompletionScript {
    package enum Shell: String, CaseIterable, Sendable { case bash, zsh, fish }

    /// The whole script for a shell.
    package static func text(for shell: Shell, roles: [Command]) -> String { "" }
}
