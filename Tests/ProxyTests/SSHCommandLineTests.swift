import Glibc
import Testing

@testable import Proxy

@Suite struct SSHCommandLineTests {
    @Test(
        arguments: [
            ("press-17", nil, "press-17"), ("root@press-17", "root", "press-17"), ("me@corp@press-17", "me@corp", "press-17"),
            ("@x", nil, "@x"),
        ] as [(String, String?, String)])
    func takesTheDestinationApart(_ text: String, _ user: String?, _ device: String) {
        let line = SSHCommandLine(destination: text)
        #expect(line.user == user && line.device == device)
    }

    @Test func startsSSHWithUsAsItsWay() {
        let line = SSHCommandLine(destination: "root@Press-17")
        #expect(
            line.words(executable: "/usr/bin/iotstream", options: ["--ca", "/etc/ca.pem"], remote: "22", arguments: ["-v", "uptime"]) == [
                "ssh", "-o", "ProxyCommand=/usr/bin/iotstream connect --ca /etc/ca.pem -- Press-17 22", "-o", "HostKeyAlias=Press-17",
                "-l", "root", "Press-17", "-v", "uptime",
            ])
    }

    @Test func goesToThePortThatSSHIsToldUnlessOneIsNamed() {
        let words = SSHCommandLine(destination: "a%b").words(executable: "iotstream", options: [], remote: nil, arguments: ["-p", "2222"])
        #expect(words[2] == "ProxyCommand=iotstream connect -- 'a%%b' %p")
    }

    /// Every character that an id may have comes through a shell, and through ssh's own percent signs, as it was.
    @Test(arguments: ["a'b", "$(touch x)", "-o", "a%h%", "*?!", "(a)#;", ":=@,+", "'", "_ 1"])
    func noIdIsCodeForTheShell(_ device: String) throws {
        let line = SSHCommandLine(destination: "u@\(device)")
        guard line.device == device else { return }  // an @ in it is the user's end
        let command = line.words(executable: "/a b/iotstream", options: ["--ca", "it's"], remote: "22", arguments: [])[2]
        let text = String(command.dropFirst("ProxyCommand=".count))
        #expect(words(of: text) == ["/a b/iotstream", "connect", "--ca", "it's", "--", device, "22"])
        let isPlain = line.alias.utf8.allSatisfy { byte in
            UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte | 0x20 || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
                || Array("-._".utf8).contains(byte)
        }
        #expect(isPlain)
    }

    /// What a shell makes of a line, after ssh has replaced its percent signs.
    private func words(of line: String) -> [String] {
        var expanded = "", isEscaped = false
        for character in line {
            if character == "%", !isEscaped {
                isEscaped = true
                continue
            }
            isEscaped = false
            expanded.append(character)
        }
        guard let pipe = popen("printf '%s\\n' \(expanded)", "r") else { return [] }
        defer { pclose(pipe) }
        var bytes: [UInt8] = []
        while case let byte = fgetc(pipe), byte != EOF { bytes.append(UInt8(truncatingIfNeeded: byte)) }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false).dropLast().map { String($0) }
    }
}
