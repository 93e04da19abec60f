import Testing
import Wire

@testable import Console

private let table = Command(
    name: "device", summary: "manages devices", options: [.state, .json],
    subcommands: [
        Command(
            name: "create", summary: "creates a device",
            options: [
                .value("auth", "WAY", "how it proves itself"), .value("tag", short: "t", "TEXT", "a label", repeats: true),
                .value("ttl", "TIME", "how long"),
            ],
            operands: [Operand("ID"), Operand("FILE", .many)], run: { _ in }),
        Command(name: "connect", summary: "runs a command", operands: [Operand("ID"), Operand("WORD", .many)], stopsAtFirstOperand: true) {
            _ in
        },
        Command(name: "copy", summary: "copies", operands: [Operand("SOURCE", .oneOrMore), Operand("TARGET")], run: { _ in }),
        Command(
            name: "mark", summary: "marks", options: [.flag("print", "prints the mark", standsAlone: true)],
            operands: [Operand("ID"), Operand("WORD", .oneOrMore)], run: { _ in }),
        Command(name: "show", summary: "shows", operands: [Operand("ID"), Operand("MODULE", .optional)], run: { _ in }),
    ])

private func parse(_ words: String...) throws -> Arguments {
    guard case .run(_, let arguments) = try CommandLineParser.parse(words, for: table) else { throw Failure.software("no command") }
    return arguments
}

@Suite struct CommandLineTests {
    @Test func takesOptionsBeforeBetweenAndAfterTheWords() throws {
        let arguments = try parse("--state", "/a", "create", "press-17", "--auth=sas", "-t", "x", "one", "-ty", "--json")
        #expect(arguments.path == "device create")
        #expect(arguments.text("state") == "/a")
        #expect(arguments.text("auth") == "sas")
        #expect(arguments.list("tag") == ["x", "y"])
        #expect(arguments.operand("ID") == "press-17")
        #expect(arguments.operandList("FILE") == ["one"])
        #expect(arguments.wantsJSON)
    }

    @Test func twoDashesEndTheOptions() throws {
        #expect(try parse("create", "--", "--json", "-t").operands == ["--json", "-t"])
        #expect(try !parse("create", "--", "--json").flag("json"))
    }

    @Test func leavesWhatFollowsTheFirstOperandToSomebodyElse() throws {
        let arguments = try parse("connect", "--json", "press-17", "-p", "22", "--unknown", "--")
        #expect(arguments.operandList("WORD") == ["-p", "22", "--unknown", "--"])
        #expect(arguments.wantsJSON)
    }

    @Test func dealsWordsOutToTheOperands() throws {
        #expect(try parse("copy", "a", "b", "c").operandList("SOURCE") == ["a", "b"])
        #expect(try parse("copy", "a", "b", "c").operand("TARGET") == "c")
        #expect(try parse("show", "a").operand("MODULE") == nil)
        #expect(try parse("show", "a", "b").operand("MODULE") == "b")
    }

    @Test func anOptionThatStandsAloneNeedsNoOperands() throws {
        #expect(try parse("mark", "--print", "--json").flag("print"))
        #expect(try parse("mark", "--print", "a", "b").operandList("WORD") == ["b"])
        #expect(throws: Failure.self) { try parse("mark", "--print", "a") }
        #expect(throws: Failure.self) { try parse("mark", "--json") }
    }

    @Test func anOptionalValueNeedsItsEqualsSign() throws {
    }

    @Test(arguments: [
        (["create", "--frob", "x"], "unknown option --frob: see iotstream device create --help"),
        (["create", "--jsn", "x"], "unknown option --jsn: did you mean --json?"),
        (["create", "-z", "x"], "unknown option -z: see iotstream device create --help"),
        (["create", "x", "--auth"], "--auth needs a value: see iotstream device create --help"),
        (["create", "--json=yes", "x"], "--json takes no value: see iotstream device create --help"),
        (["create", "--t", "x"], "--t is ambiguous: one of --tag, --ttl"),
        (["create"], "ID is missing: see iotstream device create --help"),
        (["show", "a", "b", "c"], "c: one word too many: see iotstream device show --help"),
        (["crate"], "crate: no such command: did you mean create?"),
        ([], "a command is missing: one of create, connect, copy, mark, show"),
    ])
    func saysWhatIsWrongAndWhatToDo(words: [String], message: String) {
        do throws(Failure) {
            _ = try CommandLineParser.parse(words, for: table)
            Issue.record("accepted")
        } catch {
            #expect(error.line(role: "device") == "iotstream device: " + message)
            #expect(error.exitCode == 64)
        }
    }

    @Test func helpAndVersionNeedNoOperands() throws {
        guard case .help(_, let path) = try CommandLineParser.parse(["create", "--help"], for: table) else {
            throw Failure.software("help")
        }
        #expect(path == "device create")
        guard case .version = try CommandLineParser.parse(["--version"], for: table) else { throw Failure.software("version") }
    }

    @Test func helpFitsEightyColumnsAndIsTheSameEveryTime() throws {
        guard case .help(let command, let path) = try CommandLineParser.parse(["create", "-h"], for: table) else { return }
        let page = Help.page(for: command, path: path)
        #expect(page == Help.page(for: command, path: path))
        #expect(page.split(separator: "\n").allSatisfy { $0.count <= 80 })
        #expect(page.hasPrefix("usage: iotstream device create [OPTION]... ID [FILE]...\n"))
        for name in ["--state DIR", "--auth WAY", "-t, --tag TEXT", "--version"] { #expect(page.contains(name)) }
    }

    @Test(arguments: [("90", 90), ("30s", 30), ("5m", 300), ("1h30m", 5_400), ("2d", 172_800)])
    func readsLengthsOfTime(text: String, seconds: Int) throws {
        #expect(try parse("create", "--ttl", text, "x").seconds("ttl") == seconds)
    }

    @Test(arguments: ["", "h", "1x", "1h30", "99999999999999999999", "9999999d", "1 h"])
    func refusesOtherLengthsOfTime(text: String) throws {
        let arguments = try parse("create", "--ttl", text, "x")
        #expect(throws: Failure.self) { try arguments.seconds("ttl") }
    }

    @Test func saysWhatLengthsOfTimeItTakes() throws {
        let arguments = try parse("create", "--ttl", "10m", "x")
        #expect(throws: Failure.usage("--ttl 10m: not from 0 s to 300 s")) { try arguments.seconds("ttl", in: 0...300) }
    }

    @Test func readsAddressesToListenOn() throws {
        let arguments = try parse("create", "-t", "[::]:443", "-t", ":8883", "x")
        #expect(try arguments.addresses("tag") == [ListenAddress(host: "::", port: 443), ListenAddress(host: "", port: 8_883)])
        #expect(throws: Failure.self) { try parse("create", "-t", "nowhere", "x").addresses("tag") }
    }
}
