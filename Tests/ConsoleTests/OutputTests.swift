import Testing

@testable import Console

@Suite struct OutputTests {
    @Test(arguments: [
        ("press-17", "press-17"), ("", "\"\""), ("two words", "\"two words\""), ("a=b", "\"a=b\""),
        ("say \"hi\"\\", "\"say \\\"hi\\\"\\\\\""),
        ("x\n<3>hub event=forged", "\"x\\n<3>hub event=forged\""), ("\u{1B}[2J", "\"\\u{1b}[2J\""), ("\u{202E}x", "\"\\u{202e}x\""),
        ("Köln", "\"Köln\""),
    ])
    func logValuesCannotForgeALine(text: String, written: String) {
        #expect(Printable.value(text) == written)
    }

    @Test func failuresAreOneLine() {
        #expect(Failure.refused("a\nb", "c\u{7}").line(role: "hub") == "iotstream hub: a\\nb: c\\u{7}")
        #expect(Failure.refused("gone").line(role: "") == "iotstream: gone")
    }

    @Test func columnsAreAsWideAsTheirWidestCell() {
        let lines = Table.lines(["ID", "STATE"], [["press-17", "on"], ["x", ""]])
        #expect(lines == ["ID        STATE", "press-17  on", "x"])
    }

    @Test func wrapsAtSpacesAndKeepsParagraphsAndIndentedLines() {
        #expect(Table.wrap("one two three\n\n  as it  is\nfour", width: 8) == ["one two", "three", "", "  as it  is", "four"])
    }

    @Test(arguments: [(2, 66), (13, 77), (17, 73), (28, 74), (111, 69), (24, 75), (22, 71)] as [(CInt, CInt)])
    func systemErrorsHaveTheirExitCodes(code: CInt, exitCode: CInt) {
        #expect(Failure.errno(code, "/x").exitCode == exitCode)
    }

    @Test func completionsNameEveryCommandAndOption() {
        let table = [
            Command(
                name: "device", summary: "it's devices", options: [.state],
                subcommands: [
                    Command(name: "show", summary: "shows", options: [.json], operands: [Operand("FILE", completion: .file)], run: { _ in })
                ])
        ]
        for shell in CompletionScript.Shell.allCases {
            let script = CompletionScript.text(for: shell, roles: table, linked: ["device"])
            for word in ["device", "show", "state", "json", "iotstream-device"] { #expect(script.contains(word)) }
        }
    }
}
