import Blobs
import Bytes
import Testing

@Suite struct NameTests {
    @Test(arguments: ["d/a", "d/a/b/c.txt", "d/.hidden", "d/...", "d/ü %41", "../x", "./x", "d%/x", "d/\\..\\x"])
    func namesAFile(text: String) { #expect(BlobName(text)?.description == text) }

    @Test(arguments: [
        "", "/", "d", "d/", "/a", "d//a", "d/a/", "d/.", "d/..", "d/a/../b", "d/a/./b", "d/a\0", "d/a\nb", "d/\u{7F}", "d/\u{85}", "ü/a",
    ])
    func namesNothing(text: String) { #expect(BlobName(text) == nil) }

    @Test func knowsItsLengths() {
        func path(_ component: Int, _ count: Int) -> String {
            Array(repeating: String(repeating: "x", count: component), count: count).joined(separator: "/")
        }
        #expect(BlobName(device: "d", path: path(255, 4)) != nil)
        #expect(BlobName(device: "d", path: path(256, 1)) == nil)
        #expect(BlobName(device: "d", path: path(255, 5)) == nil)
        #expect(BlobName(device: "d", path: path(1, 16)) != nil)
        #expect(BlobName(device: "d", path: path(1, 17)) == nil)
        #expect(BlobName(device: "d", path: String(repeating: "ü", count: 128)) == nil)
    }

    @Test func everyDeviceHasADirectoryOfItsOwn() {
        let devices = [".", "..", "%2E", "%2E.", "...", ".partial", ".blocks", "%", "%25", "a.b", "a%b", "%2e", "d"]
        let names = devices.map { BlobName.directory(of: $0) }
        #expect(Set(names).count == devices.count)
        #expect(names.allSatisfy { !$0.hasPrefix(".") && !$0.utf8.contains(UInt8(ascii: "/")) && !$0.isEmpty })
        #expect(BlobName.directory(of: "a.b") == "a.b" && BlobName.directory(of: "..") == "%2E.")
    }

    @Test(arguments: [
        ("bytes=0-0", 10, BlobRange.part(0..<1)), ("bytes=3-", 10, .part(3..<10)), ("bytes=-3", 10, .part(7..<10)),
        ("bytes=0-99", 10, .part(0..<10)), ("bytes=9-9", 10, .part(9..<10)), ("bytes=10-", 10, .none), ("bytes=-0", 10, .none),
        ("bytes=0-", 0, .none), ("bytes=-1", 0, .none), ("bytes=5-4", 10, .whole), ("bytes=1-2,3-4", 10, .whole), ("bytes=x", 10, .whole),
        ("byte=1-2", 10, .whole), ("bytes=-", 10, .whole), ("bytes=0-18446744073709551616", 10, .part(0..<10)),
        ("bytes=0-9223372036854775807", 10, .part(0..<10)), ("bytes=9223372036854775807-9223372036854775807", 10, .none),
        ("bytes=-99999999999999999999", 10, .part(0..<10)), ("bytes=--1", 10, .whole), ("bytes=+1-2", 10, .whole),
    ])
    func readsARange(text: String, size: Int, expected: BlobRange) { #expect(BlobRange(text, of: size) == expected) }

    private func list(_ inside: String) -> BlockList? {
        BlockList(xml: Array("<?xml version='1.0' encoding='utf-8'?>\n<BlockList>\(inside)</BlockList>\n".utf8))
    }

    @Test func readsABlockList() {
        let found = list("<Latest>QQ==</Latest>\n<!-- > --> <Committed> Qg== </Committed><Uncommitted >Qw==</Uncommitted >")
        #expect(found?.entries.map(\.place) == [.latest, .committed, .uncommitted])
        #expect(found?.entries.map(\.id.bytes) == [[0x41], [0x42], [0x43]])
        #expect(list("")?.entries.isEmpty == true && BlockList(xml: Array("\u{FEFF}<BlockList/>".utf8))?.entries.isEmpty == true)
    }

    @Test(arguments: [
        "<Latest>QQ==", "<Latest>QQ==</Committed>", "<Latest/>", "<Latest></Latest>", "<Latest>QQ</Latest>", "<latest>QQ==</latest>",
        "QQ==",
        "<Latest><Latest>QQ==</Latest></Latest>", "<Latest>&#81;Q==</Latest>", "<!DOCTYPE x>", "<![CDATA[x]]>", "<Latest>QQ==</Latest",
        "<!-- ",
    ])
    func refusesAList(inside: String) { #expect(list(inside) == nil) }

    @Test func everyPrefixOfAListIsNone() {
        let text = Array("<?xml version='1.0'?><BlockList><Latest>QQ==</Latest></BlockList>".utf8)
        for count in 0..<text.count { #expect(BlockList(xml: Array(text[..<count])) == nil) }
        #expect(BlockList(xml: text)?.entries.count == 1)
    }

    @Test func checksSums() {
        var crc = CRC64()
        crc.update(Array("123456789".utf8).span.bytes)
        #expect(crc.value == 0xAE8B_1486_0A79_9888)
        let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        for cut in [0, 1, 7, 8, 9, 500, 999, 1000] {
            var pieces = CRC64(), whole = CRC64()
            pieces.update(Array(bytes[..<cut]).span.bytes)
            pieces.update(Array(bytes[cut...]).span.bytes)
            whole.update(bytes.span.bytes)
            #expect(pieces.value == whole.value)
        }
        let digest = MD5()
        digest.update(Array("abc".utf8).span.bytes)
        #expect(digest.finish().prefix(4) == [0x90, 0x01, 0x50, 0x98])
    }
}
