import Testing
import Wire

@Suite struct HTTPHeadersTests {
    @Test func namesAreFoundInAnyCaseAndKeepTheirOrder() {
        var headers: HTTPHeaders = ["Host": "a", "X-One": "1", "x-one": "2"]
        #expect(headers["HOST"] == "a")
        #expect(headers.all("X-ONE") == ["1", "2"])
        #expect(headers.count(of: "x-one") == 2)
        #expect(headers.single("x-one") == nil)
        #expect(headers.single("host") == "a")
        #expect(headers["absent"] == nil)
        headers["X-One"] = "3"
        #expect(headers.fields.map(\.name) == ["Host", "X-One"])
        headers["host"] = nil
        #expect(!headers.contains("Host"))
    }

    @Test(arguments: [
        ("keep-alive, Upgrade", true), ("upgrade", true), (" UPGRADE ", true), ("a,\tUpgrade\t,b", true), ("upgraded", false),
        ("up grade", false), ("", false), (",,upgrade", true), ("\"upgrade\"", false),
    ])
    func findsATokenInAList(_ value: String, _ found: Bool) {
        let headers: HTTPHeaders = ["connection": value]
        #expect(headers.hasToken("Upgrade", in: "Connection") == found)
    }

    @Test func listsRunOverSeveralFields() {
        let headers: HTTPHeaders = ["A": "x, y ,", "B": "n", "a": " ,z", "A": ""]
        #expect(headers.tokens(in: "a") == ["x", "y", "z"])
        #expect(headers.hasToken("z", in: "A"))
    }
}
