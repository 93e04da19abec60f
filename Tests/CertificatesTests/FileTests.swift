import Console
import Glibc
import Testing

@testable import Certificates

/// A directory of its own for a test, gone afterwards.
private func inScratchDirectory(_ body: (String) throws -> Void) throws {
    var template = Array("/tmp/iotstream-cert-XXXXXX".utf8CString)
    let made: String? = template.withUnsafeMutableBufferPointer { buffer in
        buffer.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) }
    }
    let path = try #require(made)
    defer {
        for name in names(path) { unlink("\(path)/\(name)") }
        rmdir(path)
    }
    try body(path)
}

private func names(_ path: String) -> [String] {
    guard let stream = opendir(path) else { return [] }
    defer { closedir(stream) }
    var found: [String] = []
    while let entry = readdir(stream) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name != ".", name != ".." { found.append(name) }
    }
    return found.sorted()
}

private func text(_ path: String) throws -> String { try InputFile.text(path) }

private func mode(_ path: String) -> mode_t {
    var info = stat()
    return stat(path, &info) == 0 ? info.st_mode & 0o7777 : 0
}

@Suite struct FileNameTests {
    @Test(
        arguments: [
            ("press-17", "press-17"), ("a:b*c", "a%3Ab%2Ac"), ("100%", "100%25"), (".hidden", "%2Ehidden"), ("..", "%2E."),
            ("-rf", "%2Drf"),
            ("a/b", "a%2Fb"), ("root.ca", "root%2Eca"), ("x.full-chain", "x%2Efull-chain"), ("it's $HOME", "it%27s%20%24HOME"),
            ("Ä", "Ä"), ("::1", "%3A%3A1"), ("*.hub.example", "%2A.hub.example"),
        ]) func identifiersBecomeHarmlessNames(_ identifier: String, _ name: String)
    {
        #expect(FileName.safe(identifier) == name)
    }

    @Test func noTwoIdentifiersShareAName() {
        let alphabet = Array("a%.-:2E3A/'".unicodeScalars).map(String.init)
        var seen: [String: String] = [:]
        for a in alphabet {
            for b in alphabet {
                for c in alphabet {
                    let name = FileName.safe(a + b + c)
                    #expect(seen[name] == nil)
                    #expect(!name.contains("/") && !name.hasPrefix(".") && !name.hasPrefix("-"))
                    seen[name] = a + b + c
                }
            }
        }
    }
}

@Suite struct FileSetTests {
    private func pair(_ key: String, _ certificate: String) -> [NewFile] {
        [.key("x.key.pem", Array(key.utf8)), .certificate("x.cert.pem", certificate)]
    }

    @Test func filesArriveWithTheirModesAndNothingElse() throws {
        try inScratchDirectory { path in
            try FileSet(pair("k", "c"), in: path, replacing: false).write()
            #expect(names(path) == ["x.cert.pem", "x.key.pem"])
            #expect(mode("\(path)/x.key.pem") == 0o600 && mode("\(path)/x.cert.pem") == 0o644)
            #expect(try text("\(path)/x.key.pem") == "k")
        }
    }

    @Test(arguments: ["x.key.pem", "x.cert.pem"]) func oneFileThatIsThereStopsAll(_ name: String) throws {
        try inScratchDirectory { path in
            try FileSet([.certificate(name, "old")], in: path, replacing: false).write()
            let failure = #expect(throws: Failure.self) { try FileSet(pair("k", "c"), in: path, replacing: false).write() }
            #expect(failure?.exitCode == EX_CANTCREAT)
            #expect(names(path) == [name])
            #expect(try text("\(path)/\(name)") == "old")
        }
    }

    @Test func replacingTakesAllOfTheNew() throws {
        try inScratchDirectory { path in
            try FileSet(pair("k", "c"), in: path, replacing: false).write()
            try FileSet(pair("k2", "c2"), in: path, replacing: true).write()
            #expect(names(path) == ["x.cert.pem", "x.key.pem"])
            #expect(try text("\(path)/x.key.pem") == "k2")
            #expect(try text("\(path)/x.cert.pem") == "c2")
        }
    }

    @Test func aReplacementThatFailsHalfwayKeepsAllOfTheOld() throws {
        try inScratchDirectory { path in
            try FileSet([.key("x.key.pem", Array("k".utf8))], in: path, replacing: false).write()
            mkdir("\(path)/x.cert.pem", 0o700)
            defer { rmdir("\(path)/x.cert.pem") }
            mkdir("\(path)/x.cert.pem/full", 0o700)
            defer { rmdir("\(path)/x.cert.pem/full") }
            let failure = #expect(throws: Failure.self) { try FileSet(pair("k2", "c2"), in: path, replacing: true).write() }
            #expect(failure?.exitCode == EX_CANTCREAT)
            #expect(names(path) == ["x.cert.pem", "x.key.pem"])
            #expect(try text("\(path)/x.key.pem") == "k")
        }
    }

    @Test func aSymbolicLinkIsReplacedAndNotFollowed() throws {
        try inScratchDirectory { path in
            try FileSet([.certificate("target", "t")], in: path, replacing: false).write()
            symlink("\(path)/target", "\(path)/x.key.pem")
            #expect(throws: Failure.self) { try FileSet(pair("k", "c"), in: path, replacing: false).write() }
            try FileSet(pair("k", "c"), in: path, replacing: true).write()
            #expect(try text("\(path)/target") == "t")
        }
    }

    @Test func aMissingDirectoryIsTold() {
        let failure = #expect(throws: Failure.self) { try FileSet([], in: "/nowhere/at/all", replacing: false).write() }
        #expect(failure?.exitCode == EX_NOINPUT)
    }
}
