import FuzzSupport
import Wire

@main
enum SASFuzz {
    static func main() {
        runFuzzer(fuzzSAS)
    }
}

private func fuzzSAS(_ input: inout FuzzInput) {
    guard let text = String(validating: input.bytes, as: UTF8.self),
        let key = SymmetricKey(base64: "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
    else { return }
    if let token = try? SASToken(parsing: text) {
        check(!token.verify(key: key), "no input knows the key")
        _ = token.covers(resource: "hub/devices/d/modules/m")
        _ = token.isExpired(now: .max)
        if let client = ClientIdentity(clientID: "d/m"), token.covers(host: "hub", path: "") {
            check(token.covers(host: "HUB", client: client), "who covers the hub covers all below it")
        }
    }
    // Any text can be signed for, and the token then says so.
    guard !text.isEmpty, let token = try? SASToken(parsing: SASToken.make(resource: text, key: key, expiry: 7, policy: "p")) else {
        return check(text.isEmpty, "a token that was made is read")
    }
    check(token.verify(key: key), "a token that was made is genuine")
    check(token.policy == "p" && token.expiry == 7, "a token says what went into it")
    let segments = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    if segments.allSatisfy({ !$0.isEmpty }) { check(token.covers(resource: text), "a token covers its own resource") }
    if let bytes = Base64.decode(text) { check(Base64.encode(bytes) == text, "Base64 has one spelling") }
    if let bytes = Base64.decodeURL(text) { check(Base64.encodeURL(bytes) == text, "base64url has one spelling") }
    check(Base64.decode(Base64.encode(input.bytes)) == input.bytes, "Base64 is undone")
    check(Hex.decode(Hex.encode(input.bytes)) == input.bytes, "hexadecimal is undone")
}
