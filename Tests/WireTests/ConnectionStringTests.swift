import Testing

@testable import Wire

@Suite struct ConnectionStringTests {
    static let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    static let token = "SharedAccessSignature sr=h&sig=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%3D&se=1"

    static let printed = [
        "HostName=hub.example;DeviceId=dev1;SharedAccessKey=\(key)",
        "HostName=hub.example:8443;DeviceId=dev1;ModuleId=$edgeAgent;SharedAccessKey=\(key);GatewayHostName=gw.local",
        "HostName=[::1]:8443;SharedAccessKeyName=iothubowner;SharedAccessKey=\(key)",
        "HostName=hub.example;DeviceId=a=b,c;x509=true",
        "HostName=hub.example;DeviceId=dev1;SharedAccessSignature=\(token)",
        "HostName=hub.example;DeviceId=dev1",
    ]

    @Test(arguments: printed) func printsWhatItReads(text: String) throws {
        let string = try ConnectionString(parsing: text)
        #expect(string.text == text)
        #expect(try ConnectionString(parsing: "\n \(text); \n") == string)
        #expect(try ConnectionString(parsing: text.split(separator: ";").reversed().joined(separator: ";")) == string)
    }

    @Test func tellsItsParts() throws {
        let string = try ConnectionString(parsing: Self.printed[1])
        #expect(string.host == HostPort(host: "hub.example", port: 8443))
        #expect(string.client == ClientIdentity(deviceID: "dev1", moduleID: "$edgeAgent"))
        #expect(string.gateway?.host == "gw.local")
        #expect(string.credential == SymmetricKey(base64: Self.key).map { .key($0) })
    }

    static let malformed: [(String, ConnectionStringError)] = [
        ("", .missing("HostName")),
        ("DeviceId=d", .missing("HostName")),
        ("HostName=", .malformed("HostName")),
        ("HostName", .malformed("HostName")),
        ("HostName=a b;DeviceId=d", .malformed("HostName")),
        ("HostName=h:0", .malformed("HostName")),
        ("HostName=h:99999", .malformed("HostName")),
        ("HostName=h;HostName=h", .duplicate("HostName")),
        ("HostName=h;ModuleId=m", .missing("DeviceId")),
        ("HostName=h;DeviceId=a/b", .malformed("DeviceId")),
        ("HostName=h;DeviceId=d;ModuleId=ä", .malformed("ModuleId")),
        ("HostName=h;DeviceId=\(String(repeating: "d", count: 129))", .malformed("DeviceId")),
        ("HostName=h;DeviceId=d;SharedAccessKey=short", .malformed("SharedAccessKey")),
        ("HostName=h;DeviceId=d;SharedAccessKey=c2hvcnQ=", .malformed("SharedAccessKey")),
        ("HostName=h;DeviceId=d;SharedAccessSignature=x", .malformed("SharedAccessSignature")),
        ("HostName=h;SharedAccessSignature=\(token) ;DeviceId=d", .malformed("SharedAccessSignature")),
        ("HostName=h;DeviceId=d;x509=maybe", .malformed("x509")),
        ("HostName=h;DeviceId=d;x509=true;SharedAccessKey=\(key)", .conflict("SharedAccessKey", "x509")),
        ("HostName=h;SharedAccessKeyName=a b;SharedAccessKey=\(key)", .malformed("SharedAccessKeyName")),
        ("HostName=h;GatewayHostName=[", .malformed("GatewayHostName")),
        ("HostName=h;Colour=crimson", .unknown("Colour")),
        ("HostName=h;;DeviceId=d", .unknown(nil)),
        ("HostName=h;\(key)", .unknown(nil)),
        ("hostname=h", .unknown("hostname")),
    ]

    @Test(arguments: malformed) func namesTheKeyAndNeverTheValue(text: String, error: ConnectionStringError) {
        #expect(throws: error) { try ConnectionString(parsing: text) }
        #expect(!error.description.contains("crimson"))
    }

    @Test func printsNoSecret() throws {
        for text in [Self.printed[1], Self.printed[4]] {
            let string = try ConnectionString(parsing: text)
            var printed = "\(string) \(String(reflecting: string))"
            dump(string, to: &printed)
            #expect(!printed.contains("MDEy") && !printed.contains("AAAA"))
        }
    }
}
