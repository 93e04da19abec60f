import Glibc
import Wire

/// The functions of the language (service-rest 11.2), by their names in lower case without `_`.
package enum QueryFunction: String, CaseIterable, Sendable {
    case isDefined = "isdefined"
    case isNull = "isnull"
    case isBool = "isbool"
    case isNumber = "isnumber"
    case isString = "isstring"
    case isArray = "isarray"
    case isObject = "isobject"
    case isPrimitive = "isprimitive"
    case concat, length, lower, upper, substring
    case indexOf = "indexof"
    case startsWith = "startswith"
    case endsWith = "endswith"
    case contains
    case asNumber = "asnumber"
    case abs, exp, power, square, ceiling, floor, sign, sqrt

    /// The function of a name in any case, `STARTS_WITH` and `STARTSWITH` alike; nil when there is none.
    static func named(_ name: String) -> QueryFunction? {
        QueryFunction(rawValue: String(decoding: name.utf8.filter { $0 != UInt8(ascii: "_") }.map(ASCII.lowercased), as: UTF8.self))
    }

    /// How many arguments it takes.
    var arity: ClosedRange<Int> {
        switch self {
        case .concat: 2...Query.longestText
        case .substring: 3...3
        case .indexOf, .startsWith, .endsWith, .contains, .power: 2...2
        default: 1...1
        }
    }

    /// Whether it says true or false.
    var isTest: Bool {
        switch self {
        case .isDefined, .isNull, .isBool, .isNumber, .isString, .isArray, .isObject, .isPrimitive, .startsWith, .endsWith, .contains: true
        default: false
        }
    }

    /// The value; nil, undefined, when an argument is of the wrong type or there is no result. Type checks always have one.
    func value(of arguments: [JSONValue?]) -> JSONValue? {
        let first = arguments.first ?? nil, second = arguments.count > 1 ? arguments[1] : nil
        switch self {
        case .isDefined, .isNull, .isBool, .isNumber, .isString, .isArray, .isObject, .isPrimitive: return .bool(isOfType(first))
        case .concat:
            var text = ""
            for argument in arguments {
                guard let part = argument?.string else { return nil }
                text += part
            }
            return .string(text)
        case .length: return (first?.string).map { .integer(Int64($0.unicodeScalars.count)) }
        case .lower: return (first?.string).map { .string($0.lowercased()) }
        case .upper: return (first?.string).map { .string($0.uppercased()) }
        case .substring: return Self.substring(first?.string, second, arguments.count > 2 ? arguments[2] : nil)
        case .indexOf, .startsWith, .endsWith, .contains:
            guard let text = first?.string, let wanted = second?.string else { return nil }
            return search(Array(text.utf8), Array(wanted.utf8))
        case .asNumber: return Self.number(first)
        case .power:
            guard let base = first?.double, let exponent = second?.double else { return nil }
            return Self.real(pow(base, exponent))
        case .abs, .exp, .square, .ceiling, .floor, .sign, .sqrt: return first.flatMap(calculate)
        }
    }

    private func isOfType(_ value: JSONValue?) -> Bool {
        switch (self, value) {
        case (_, nil): false
        case (.isDefined, _?), (.isNull, .null?), (.isBool, .bool?), (.isNumber, .integer?), (.isNumber, .double?),
            (.isString, .string?), (.isArray, .array?), (.isObject, .object?):
            true
        case (.isPrimitive, let value?): value.array == nil && value.object == nil
        default: false
        }
    }

    private func search(_ text: [UInt8], _ wanted: [UInt8]) -> JSONValue? {
        switch self {
        case .startsWith: return .bool(text.starts(with: wanted))
        case .endsWith: return .bool(text.count >= wanted.count && text[(text.count - wanted.count)...].elementsEqual(wanted))
        default:
            let place = Self.firstPlace(of: wanted, in: text)
            if self == .contains { return .bool(place != nil) }
            // Counted in characters: bytes that are no continuations of UTF-8.
            return .integer(place.map { Int64(text[..<$0].count { $0 & 0xC0 != 0x80 }) } ?? -1)
        }
    }

    private static func firstPlace(of wanted: [UInt8], in text: [UInt8]) -> Int? {
        guard let head = wanted.first else { return 0 }
        guard text.count >= wanted.count else { return nil }
        return (0...(text.count - wanted.count)).first { text[$0] == head && text[$0..<($0 + wanted.count)].elementsEqual(wanted) }
    }

    /// From a place counted from 0, cut to what there is.
    private static func substring(_ text: String?, _ start: JSONValue?, _ length: JSONValue?) -> JSONValue? {
        guard let text, let start = start?.integer, let length = length?.integer else { return nil }
        let scalars = text.unicodeScalars.dropFirst(Int(clamping: max(0, start))).prefix(Int(clamping: max(0, length)))
        return .string(String(scalars))
    }

    private static func number(_ value: JSONValue?) -> JSONValue? {
        switch value {
        case .integer?, .double?: return value
        case .string(let text)?: return Int64(text).map { .integer($0) } ?? Double(text).flatMap(real)
        default: return nil
        }
    }

    private func calculate(_ value: JSONValue) -> JSONValue? {
        if case .integer(let number) = value {
            switch self {
            case .abs where number != .min: return .integer(Swift.abs(number))
            case .sign: return .integer(number.signum())
            case .ceiling, .floor: return value
            case .square:
                let (result, overflow) = number.multipliedReportingOverflow(by: number)
                if !overflow { return .integer(result) }
            default: break
            }
        }
        guard let number = value.double else { return nil }
        switch self {
        case .abs: return Self.real(Swift.abs(number))
        case .exp: return Self.real(Glibc.exp(number))
        case .square: return Self.real(number * number)
        case .ceiling: return Self.real(number.rounded(.up))
        case .floor: return Self.real(number.rounded(.down))
        case .sign: return .integer(number > 0 ? 1 : number < 0 ? -1 : 0)
        case .sqrt: return Self.real(number.squareRoot())
        default: return nil
        }
    }

    private static func real(_ number: Double) -> JSONValue? { number.isFinite ? .double(number) : nil }
}
