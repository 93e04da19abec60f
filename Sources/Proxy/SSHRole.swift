import Console
import Glibc
import Wire

/// `iotstream ssh`: the real ssh, with `iotstream connect` as its way to the device.
package enum SSHRole {
    package static let command = Command(
        name: "ssh", summary: "run ssh to a device",
        details: """
            Runs ssh, with `iotstream connect` as its ProxyCommand. Options of this command stand before the device, everything behind \
            it is ssh's own, its -p too, and so is the exit status. Host keys are remembered under the device's id.
            """,
        options: ServiceSettings.options + [
            StreamMode.option,
            .value("remote-port", "REMOTE", "where sshd is: a port, or a name that the agent offers (default: ssh's own port)"),
        ],
        operands: [
            Operand("[USER@]DEVICE", .one, "the device's id"), Operand("ARGUMENT", .many, "options of ssh's, and a command to run"),
        ],
        examples: [
            Example("iotstream ssh user@press-17", "a shell"),
            Example("iotstream ssh user@press-17 -L 8080:localhost:80 uptime", "whatever ssh can do"),
        ],
        stopsAtFirstOperand: true,
        run: { arguments throws(Failure) in try run(arguments) })

    /// Options that go to `connect` as they are; a connection string or a proxy's password go by the environment.
    private static let passedOn = ["config", "connection-string-file", "ca", "module", "wait", "mode"] + ServiceTrust.options.map(\.name)

    private static func run(_ arguments: Arguments) throws(Failure) {
        let line = SSHCommandLine(destination: try arguments.required("[USER@]DEVICE"))
        _ = try StreamTarget.client(line.device, module: arguments.text("module"))
        let remote = try arguments.text("remote-port").map { text throws(Failure) in try ConnectRole.remote(text) }
        _ = try ServiceSettings(arguments)  // what is wrong with it is better said here than by a child of ssh

        var options: [String] = []
        for name in passedOn { if let value = arguments.text(name) { options += ["--\(name)", value] } }
        if arguments.flag("quiet") { options.append("--quiet") }
        for _ in 0..<arguments.count("verbose") { options.append("--verbose") }
        if arguments.text("connection-string-file") == nil, let text = arguments.text("connection-string") {
            setenv("IOTSTREAM_CONNECTION_STRING", text, 1)
        }
        if let proxy = arguments.text("proxy") {
            setenv("https_proxy", proxy, 1)
            unsetenv("no_proxy")
            unsetenv("NO_PROXY")
        }
        let words = line.words(
            executable: executable, options: options, remote: remote, arguments: arguments.operandList("ARGUMENT"))
        try Output.flush()
        signal(SIGPIPE, SIG_DFL)
        var vector = words.map { strdup($0) } + [nil]
        execvp("ssh", &vector)
        let number = errno
        for text in vector { free(text) }
        if number == ENOENT { throw .system("ssh: not found", "install it: apt-get install openssh-client") }
        throw .errno(number, "ssh")
    }

    /// The path of this program; where it has been replaced since, the one it had.
    private static var executable: String {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = readlink("/proc/self/exe", &buffer, buffer.count - 1)
        let deleted = " (deleted)"
        guard count > 0 else { return "iotstream" }
        let path = String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return path.hasSuffix(deleted) ? String(path.dropLast(deleted.count)) : path
    }
}
