import Testing
import Wire

@testable import Blobs

@Suite struct FieldsTests {
    @Test func whatIsAskedForComesBackUnderItsOwnName() throws {
        let request = HTTPHeaders([
            ("Content-Type", "text/xml"), ("x-ms-blob-content-type", "a/b"), ("X-MS-Meta-K", "v: w"), ("x-ms-meta-", "x"), ("Range", "x"),
        ])
        let fields = try #require(BlobFields(request, isWhole: true))
        #expect(fields.headers == HTTPHeaders([("Content-Type", "a/b"), ("X-MS-Meta-K", "v: w")]))
        #expect(BlobFields(text: fields.text) == fields)
        let bare = HTTPHeaders([("Content-Type", "text/xml")])
        #expect(BlobFields(bare, isWhole: true)?.headers["Content-Type"] == "text/xml" && BlobFields(bare, isWhole: false) == BlobFields())
        #expect(BlobFields(HTTPHeaders([("x-ms-meta-a", String(repeating: "x", count: BlobFields.longest))]), isWhole: true) == nil)
    }

    @Test(arguments: [
        "Set-Cookie: a", "Content-Type", ": x", "Content-Type: a\r", "x-ms-meta-a b: c", "x-ms-meta-\u{7f}: x", "\n\n", "Content-Length: 5",
    ])
    func whatSomebodyElseHasWrittenThereIsLeftOut(line: String) {
        #expect(BlobFields(text: Array("\(line)\n".utf8)) == BlobFields())
    }
}
