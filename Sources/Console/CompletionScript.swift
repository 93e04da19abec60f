/// Shell completions made from the tables of the commands, so that they cannot say anything else.
package enum CompletionScript {
    package enum Shell: String, CaseIterable, Sendable { case bash, zsh, fish }

    /// The whole script for a shell.
    ///
    /// - Parameters:
    ///   - roles: the executable's commands.
    ///   - linked: the roles that have a symlink `iotstream-NAME` of their own.
    package static func text(for shell: Shell, roles: [Command], linked: [String]) -> String {
        let nodes = roles.flatMap { Node.all(of: $0, path: $0.name, inherited: []) }
        let linked = linked.filter { name in roles.contains { $0.name == name } }
        let lines =
            switch shell {
            case .bash: bash(roles, nodes, linked)
            case .zsh: zsh(roles, nodes, linked)
            case .fish: fish(roles, nodes, linked)
            }
        return lines.joined(separator: "\n") + "\n"
    }

    /// A command with its path and everything that it understands.
    struct Node {
        let path: String
        let command: Command
        let options: [Option]

        static func all(of command: Command, path: String, inherited: [Option]) -> [Node] {
            let options = inherited + command.options
            let below = command.subcommands.flatMap { all(of: $0, path: "\(path) \($0.name)", inherited: options) }
            return [Node(path: path, command: command, options: options + CommandLineParser.everywhere)] + below
        }

        /// The path as part of a shell function's name.
        var identifier: String { String(path.map { $0.isLetter || $0.isNumber ? $0 : "_" }) }
    }

    /// With a backslash before each of `characters`.
    static func escaped(_ text: String, _ characters: String) -> String {
        text.reduce(into: "") { $0 += characters.contains($1) ? "\\\($1)" : "\($1)" }
    }

    /// In single quotes, for any of the three shells.
    static func quoted(_ text: String) -> String {
        "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
    }
}

// MARK: - bash

extension CompletionScript {
    private static func bash(_ roles: [Command], _ nodes: [Node], _ linked: [String]) -> [String] {
        var lines = [
            "# bash completion for iotstream; made by `iotstream completion bash`",
            "_iotstream() {",
            "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path='' index",
            "    [[ ${COMP_WORDS[0]##*/} == iotstream-* ]] && path=${COMP_WORDS[0]##*/iotstream-} && path=${path#iotstream-}",
            "    for (( index = 1; index < COMP_CWORD; index++ )); do",
            "        case \"$path:${COMP_WORDS[index]}\" in",
        ]
        for role in roles { lines.append("            \(quoted(":" + role.name))) path=\(quoted(role.name)) ;;") }
        for node in nodes {
            for below in node.command.subcommands {
                lines.append("            \(quoted(node.path + ":" + below.name))) path=\(quoted(node.path + " " + below.name)) ;;")
            }
        }
        lines += ["        esac", "    done", "    COMPREPLY=()", "    case \"$path:$prev\" in"]
        for node in nodes {
            for option in node.options {
                guard case .required = option.value else { continue }
                let names = ["--" + option.name] + (option.short.map { ["-\($0)"] } ?? [])
                let patterns = names.map { quoted(node.path + ":" + $0) }.joined(separator: "|")
                lines.append("        \(patterns)) \(bashReply(option.completion)); return ;;")
            }
        }
        lines += ["    esac", "    if [[ $cur == -* ]]; then", "        case \"$path\" in"]
        lines.append("            '') \(bashReply(.words(["--help", "--version"]))) ;;")
        for node in nodes {
            let words = node.options.map { "--" + $0.name }
            lines.append("            \(quoted(node.path))) \(bashReply(.words(words))) ;;")
        }
        lines += ["        esac", "        return", "    fi", "    case \"$path\" in"]
        lines.append("        '') \(bashReply(.words(roles.map(\.name)))) ;;")
        for node in nodes {
            let completion =
                node.command.subcommands.isEmpty
                ? node.command.operands.last?.completion ?? .nothing : .words(node.command.subcommands.map(\.name))
            lines.append("        \(quoted(node.path))) \(bashReply(completion)) ;;")
        }
        lines += ["    esac", "}"]
        let programs = ["iotstream"] + linked.map { "iotstream-" + $0 }
        return lines + ["complete -F _iotstream \(programs.joined(separator: " "))"]
    }

    private static func bashReply(_ completion: Completion) -> String {
        switch completion {
        case .nothing: ":"
        case .file: "mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); compopt -o filenames 2>/dev/null"
        case .directory: "mapfile -t COMPREPLY < <(compgen -d -- \"$cur\"); compopt -o filenames 2>/dev/null"
        case .words(let words): "mapfile -t COMPREPLY < <(compgen -W \(quoted(words.joined(separator: " "))) -- \"$cur\")"
        }
    }
}

// MARK: - zsh

extension CompletionScript {
    private static func zsh(_ roles: [Command], _ nodes: [Node], _ linked: [String]) -> [String] {
        let programs = ["iotstream"] + linked.map { "iotstream-" + $0 }
        var lines = [
            "#compdef \(programs.joined(separator: " "))",
            "# zsh completion for iotstream; made by `iotstream completion zsh`",
        ]
        for node in nodes {
            let options = node.options.flatMap(zshSpecification)
            if node.command.subcommands.isEmpty {
                lines += zshFunction(node.identifier, options + node.command.operands.enumerated().map(zshOperand))
            } else {
                lines += zshGroup(node.identifier, options, node.command.subcommands)
            }
        }
        lines += zshGroup("", ["'--help[show the roles]'", "'--version[show the version]'"], roles)
        lines += ["case ${service:-iotstream} in"]
        for name in linked { lines.append("    iotstream-\(name)) _iotstream_\(name) \"$@\" ;;") }
        return lines + ["    *) _iotstream \"$@\" ;;", "esac"]
    }

    private static func zshFunction(_ identifier: String, _ specifications: [String]) -> [String] {
        ["_iotstream_\(identifier)() {", "    _arguments -s -S \\"]
            + specifications.enumerated().map { "        \($0.element)" + ($0.offset == specifications.count - 1 ? "" : " \\") } + ["}"]
    }

    private static func zshGroup(_ identifier: String, _ options: [String], _ commands: [Command]) -> [String] {
        let name = identifier.isEmpty ? "_iotstream" : "_iotstream_" + identifier
        var lines = [
            "\(name)() {", "    local context state state_descr line", "    typeset -A opt_args", "    _arguments -C -S \\",
        ]
        lines += options.map { "        \($0) \\" }
        lines += ["        '1: :->command' '*:: :->rest'", "    case $state in", "        command)", "            local -a commands=("]
        lines += commands.map { "                \(quoted($0.name + ":" + escaped($0.summary, ":")))" }
        lines += ["            )", "            _describe command commands ;;", "        rest)", "            case $words[1] in"]
        lines += commands.map { "                \($0.name)) \(name)_\(String($0.name.map { $0.isLetter ? $0 : "_" })) ;;" }
        return lines + ["            esac ;;", "    esac", "}"]
    }

    private static func zshSpecification(_ option: Option) -> [String] {
        let text = "[" + escaped(option.summary, "[]:") + "]"
        let (mark, value): (String, String) =
            switch option.value {
            case .none: ("", "")
            case .required(let placeholder): ("=", ":\(escaped(placeholder, ":")):" + zshAction(option.completion))
            }
        let long = quoted((option.repeats ? "*" : "") + "--" + option.name + mark + text + value)
        guard let short = option.short else { return [long] }
        return [long, quoted((option.repeats ? "*" : "") + "-\(short)" + (mark.isEmpty ? "" : "+") + text + value)]
    }

    private static func zshOperand(_ entry: (offset: Int, element: Operand)) -> String {
        let operand = entry.element
        let place =
            switch operand.arity {
            case .one: "\(entry.offset + 1):"
            case .optional: "\(entry.offset + 1)::"
            case .many, .oneOrMore: "*:"
            }
        return quoted("\(place)\(escaped(operand.name, ":")):" + zshAction(operand.completion))
    }

    private static func zshAction(_ completion: Completion) -> String {
        switch completion {
        case .nothing: " "
        case .file: "_files"
        case .directory: "_files -/"
        case .words(let words): "(" + words.joined(separator: " ") + ")"
        }
    }
}

// MARK: - fish

extension CompletionScript {
    private static func fish(_ roles: [Command], _ nodes: [Node], _ linked: [String]) -> [String] {
        var lines = [
            "# fish completion for iotstream; made by `iotstream completion fish`",
            "function __iotstream_at",
            "    set -l path ''",
            "    for word in (commandline -opc)[2..]",
            "        switch \"$path:$word\"",
        ]
        for role in roles { lines += ["            case \(quoted(":" + role.name))", "                set path \(quoted(role.name))"] }
        for node in nodes {
            for below in node.command.subcommands {
                lines += [
                    "            case \(quoted(node.path + ":" + below.name))",
                    "                set path \(quoted(node.path + " " + below.name))",
                ]
            }
        }
        lines += ["        end", "    end", "    test \"$path\" = \"$argv[1]\"", "end", "complete -c iotstream -f"]
        lines += roles.map { "complete -c iotstream -n '__iotstream_at \"\"' -a \($0.name) -d \(quoted($0.summary))" }
        for node in nodes {
            let start = "complete -c iotstream -n \(quoted("__iotstream_at \"\(node.path)\""))"
            lines += node.command.subcommands.map { "\(start) -a \($0.name) -d \(quoted($0.summary))" }
            for option in node.options {
                let short = option.short.map { " -s \($0)" } ?? ""
                lines.append("\(start)\(short) -l \(option.name)\(fishValue(option)) -d \(quoted(option.summary))")
            }
            switch node.command.operands.last?.completion {
            case .file: lines.append("\(start) -F")
            case .directory: lines.append("\(start) -a '(__fish_complete_directories)'")
            case .words(let words): lines.append("\(start) -a \(quoted(words.joined(separator: " ")))")
            case .nothing, nil: break
            }
        }
        return lines + linked.map { "complete -c iotstream-\($0) -w 'iotstream \($0)'" }
    }

    private static func fishValue(_ option: Option) -> String {
        guard case .required = option.value else { return "" }
        return switch option.completion {
        case .nothing: " -x"
        case .file: " -r -F"
        case .directory: " -x -a '(__fish_complete_directories)'"
        case .words(let words): " -x -a " + quoted(words.joined(separator: " "))
        }
    }
}
