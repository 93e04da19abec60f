import Console
import Dialing
import Glibc
import LinuxIO
import Wire

/// `iotstream doctor`: whether a hub can be reached from here, and what to mend where it cannot.
package enum DoctorRole {
    package static let command = Command(
        name: "doctor", summary: "examines the way to a hub and says what to mend",
        details: """
            Goes the way that agents and services go, step by step: proxy, name, TCP, TLS and the hub's certificate, the hub's answer, this \
            machine's clock, the credentials, the WebSocket that devices and streams need, and MQTT's own port. Changes nothing and \
            disturbs no connection of the device whose connection string it uses.

            Without HOST the hub is that of the connection string; with HOST and no connection string the credentials are left out. Exits \
            with 0 when nothing stands in the way, 69 when the hub cannot be reached, 77 when it does not accept the credentials, \
            else with 1.
            """,
        options: Option.connectionString + [
            .ca, .value("proxy", "URL", "http://[user:pass@]host:port (else https_proxy, all_proxy and no_proxy)"), .json,
        ],
        operands: [Operand("HOST", .optional, "the hub: a name, or name:port where it is not 443")],
        examples: [
            Example("iotstream doctor hub.example.net", "from a machine that shall become a device"),
            Example("iotstream doctor --connection-string-file /etc/iotstream/agent.cs", "with the device's own credentials"),
        ],
        run: { arguments throws(Failure) in try run(arguments) })

    private static func run(_ arguments: Arguments) throws(Failure) {
        let examination = try Examination(arguments)
        let findings = examination.run()
        if arguments.wantsJSON {
            try Output.json(.array(findings.map(\.document)))
        } else {
            for line in Finding.lines(findings) { try Output.line(line) }
        }
        try Output.flush()
        if let worst = findings.first(where: { $0.grade == .failure }) { throw .silent(exitCode: worst.exitCode) }
    }
}

/// What one step of an examination came to.
struct Finding: Sendable {
    /// The spelling is that of `--json`.
    enum Grade: String { case ok, warning, failure }

    /// One word: `name`, `tls`, `clock`.
    let check: String
    let grade: Grade
    let detail: String
    /// What to do about it; empty where there is nothing to do.
    let advice: String
    /// Of the command, when this is the first failure.
    let exitCode: CInt

    init(_ check: String, _ grade: Grade, _ detail: String, _ advice: String = "", exitCode: CInt = EX_UNAVAILABLE) {
        self.check = check
        self.grade = grade
        self.detail = detail
        self.advice = advice
        self.exitCode = exitCode
    }

    /// Nothing is wrong with it.
    init(_ check: String, _ detail: String) { self.init(check, .ok, detail) }

    var document: JSONValue {
        .object(of: [
            "check": .string(check), "outcome": .string(grade.rawValue), "detail": .string(detail),
            "advice": advice.isEmpty ? nil : .string(advice),
        ])
    }

    /// For people, advice below what it is about.
    static func lines(_ findings: [Finding]) -> [String] {
        let width = findings.map(\.check.utf8.count).max() ?? 0
        return findings.flatMap { finding in
            let word = finding.grade == .ok ? "ok  " : finding.grade == .warning ? "warn" : "FAIL"
            let name = finding.check + String(repeating: " ", count: width - finding.check.utf8.count)
            let line = "\(word)  \(name)  \(finding.detail)"
            return finding.advice.isEmpty ? [line] : [line, String(repeating: " ", count: width + 8) + "-> " + finding.advice]
        }
    }
}
