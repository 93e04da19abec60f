import Glibc
import LinuxIO
import Testing

@Suite struct ConfinedDirectoryTests {
    private func place() throws -> String {
        var template = Array("/tmp/iotstream-confined-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp") }
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private func number(_ body: () throws -> Void) -> CInt? {
        do {
            try body()
            return 0
        } catch { return (error as? SystemError)?.number }
    }

    @Test func keepsToItsDirectory() throws {
        let root = try place()
        defer {
            for name in ["a/b/f", "a/b/link", "a/b/pipe", "secret"] { unlink("\(root)/\(name)") }
            for name in ["a/b", "a/out"] where rmdir("\(root)/\(name)") != 0 { unlink("\(root)/\(name)") }
            rmdir("\(root)/a")
            rmdir(root)
        }
        try Files.create("\(root)/secret", with: [1], mode: 0o600)
        #expect(number { _ = try ConfinedDirectory(below: root, ["a"], creates: false) } == ENOENT)
        let directory = try ConfinedDirectory(below: root, ["a", "b"], creates: true)
        symlink("../..", "\(root)/a/out")
        #expect(number { _ = try ConfinedDirectory(below: root, ["a", "out"], creates: true) } != 0)
        symlink("../../secret", "\(root)/a/b/link")
        mkfifo("\(root)/a/b/pipe", 0o600)
        for name in ["link", "pipe", "..", ".", "", "../../secret", "a\0"] {
            let result = number { _ = try directory.read(name, limit: 10) }
            #expect(result != 0, "\(name)")
        }
        try directory.replace("f") { file throws(SystemError) in
            try Files.writeAll([1, 2, 3], to: file)
            return true
        }
        #expect(try directory.read("f", limit: 3) == [1, 2, 3])
        #expect(number { _ = try directory.read("f", limit: 2) } == EFBIG)
        try directory.replace("f") { _ in false }
        try directory.replace("link") { _ in true }
        #expect(try directory.read("f", limit: 3) == [1, 2, 3] && Files.read("\(root)/secret") == [1])
        #expect(try Files.names(in: "\(root)/a/b") == ["f", "link", "pipe"])
        directory.remove("link")
        directory.remove("../../secret")
        #expect(Files.exists("\(root)/secret"))
    }
}
