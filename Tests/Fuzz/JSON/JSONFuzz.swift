import FuzzSupport
import Wire

@main
enum JSONFuzz {
    static func main() {
        runFuzzer(fuzzJSON)
    }
}

private func fuzzJSON(_ input: inout FuzzInput) {
    let depth = input.number(below: 4) == 0 ? 3 : 64
    guard let value = try? JSONValue.parse(input.bytes, depth: depth) else { return }
    check(levels(of: value) <= depth, "a document keeps its depth")
    for style in [JSONStyle.compact, .pretty] {
        check((try? JSONValue.parse(value.bytes(style: style))) == value, "what was read and written is read the same")
    }
    check((try? JSONValue.parse(value.text(sorted: true))) == value, "sorting changes nothing but the order")
    if let object = value.object { for key in object.keys { check(value[key] != nil, "every member is found") } }
}

private func levels(of value: JSONValue) -> Int {
    switch value {
    case .array(let elements): 1 + (elements.map(levels(of:)).max() ?? 0)
    case .object(let members): 1 + (members.values.map(levels(of:)).max() ?? 0)
    default: 0
    }
}
