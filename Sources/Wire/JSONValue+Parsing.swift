import Bytes
import CJansson

/// Why a text is no JSON that we take. Lines and columns count from 1, columns in characters; nothing of the content is repeated.
package enum JSONError: Error, Equatable, CustomStringConvertible {
    case malformed(line: Int, column: Int)
    case notUTF8(line: Int, column: Int)
    case duplicateKey(line: Int, column: Int)
    /// A number that neither 64-bit integers nor doubles can hold.
    case numberOutOfRange(line: Int, column: Int)
    /// U+0000 in a member's name.
    case nulInKey(line: Int, column: Int)
    case tooDeep(limit: Int)
    case tooLarge(limit: Int)
    case outOfMemory

    package var description: String {
        switch self {
        case .malformed(let line, let column): "malformed JSON at line \(line), column \(column)"
        case .notUTF8(let line, let column): "JSON is not UTF-8 at line \(line), column \(column)"
        case .duplicateKey(let line, let column): "duplicate JSON member at line \(line), column \(column)"
        case .numberOutOfRange(let line, let column): "JSON number out of range at line \(line), column \(column)"
        case .nulInKey(let line, let column): "NUL in a JSON member's name at line \(line), column \(column)"
        case .tooDeep(let limit): "JSON nests deeper than \(limit) levels"
        case .tooLarge(let limit): "JSON is longer than \(limit) bytes"
        case .outOfMemory: "no memory for JSON"
        }
    }
}

extension JSONValue {
    /// Reads one document: any value, nothing but white space around it, no member twice.
    /// - Parameters:
    ///   - bytes: UTF-8 without a byte order mark.
    ///   - depth: the most levels of arrays and objects within each other.
    ///   - limit: the most bytes accepted.
    package static func parse(_ bytes: RawSpan, depth: Int = 64, limit: Int = 16 << 20) throws(JSONError) -> JSONValue {
        guard bytes.byteCount <= limit else { throw .tooLarge(limit: limit) }
        guard bytes.byteCount > 0 else { throw .malformed(line: 1, column: 1) }
        guard nests(bytes, within: depth) else { throw .tooDeep(limit: depth) }
        var error = json_error_t()
        let flags = Int(JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL)
        let root = bytes.withUnsafeBytes { json_loadb($0.baseAddress, $0.count, flags, &error) }
        guard let root else { throw JSONError(error) }
        defer { json_decref(root) }
        return try value(of: root)
    }

    package static func parse(_ bytes: [UInt8], depth: Int = 64, limit: Int = 16 << 20) throws(JSONError) -> JSONValue {
        try parse(bytes.span.bytes, depth: depth, limit: limit)
    }

    package static func parse(_ text: String, depth: Int = 64, limit: Int = 16 << 20) throws(JSONError) -> JSONValue {
        try parse(Array(text.utf8), depth: depth, limit: limit)
    }

    /// Whether brackets outside of strings nest no deeper than `limit`; looked at first, so that no stack depends on the input.
    private static func nests(_ bytes: RawSpan, within limit: Int) -> Bool {
        var depth = 0, place = 0, isInString = false
        while place < bytes.byteCount {
            switch bytes.byte(at: place) {
            case UInt8(ascii: "\\") where isInString: place += 1
            case UInt8(ascii: "\""): isInString.toggle()
            case UInt8(ascii: "["), UInt8(ascii: "{"):
                if isInString { break }
                depth += 1
                if depth > limit { return false }
            case UInt8(ascii: "]"), UInt8(ascii: "}"): if !isInString { depth -= 1 }
            default: break
            }
            place += 1
        }
        return true
    }

    private static func value(of json: UnsafeMutablePointer<json_t>) throws(JSONError) -> JSONValue {
        switch json.pointee.type {
        case JSON_OBJECT:
            var members = JSONObject()
            var next = json_object_iter(json)
            while let member = next {
                guard let name = json_object_iter_key(member), let content = json_object_iter_value(member) else { throw .outOfMemory }
                let key = text(name, length: json_object_iter_key_len(member))
                // Spellings that differ in bytes only, as é and e with an accent, are one key to us.
                guard members[key] == nil else { throw .duplicateKey(line: 1, column: 1) }
                members[key] = try value(of: content)
                next = json_object_iter_next(json, member)
            }
            return .object(members)
        case JSON_ARRAY:
            var elements: [JSONValue] = []
            elements.reserveCapacity(json_array_size(json))
            for index in 0..<json_array_size(json) {
                guard let element = json_array_get(json, index) else { throw .outOfMemory }
                elements.append(try value(of: element))
            }
            return .array(elements)
        case JSON_STRING:
            guard let start = json_string_value(json) else { throw .outOfMemory }
            return .string(text(start, length: json_string_length(json)))
        case JSON_INTEGER: return .integer(Int64(json_integer_value(json)))
        case JSON_REAL: return .double(json_real_value(json))
        case JSON_TRUE: return .bool(true)
        case JSON_FALSE: return .bool(false)
        default: return .null
        }
    }

    private static func text(_ start: UnsafePointer<CChar>, length: Int) -> String {
        String(decoding: UnsafeRawBufferPointer(start: start, count: length), as: UTF8.self)
    }
}

extension JSONError {
    fileprivate init(_ error: json_error_t) {
        let line = max(1, Int(error.line)), column = max(1, Int(error.column))
        let code = withUnsafePointer(to: error) { json_error_code($0) }
        switch code {
        case json_error_duplicate_key: self = .duplicateKey(line: line, column: column)
        case json_error_invalid_utf8: self = .notUTF8(line: line, column: column)
        case json_error_numeric_overflow: self = .numberOutOfRange(line: line, column: column)
        case json_error_null_byte_in_key: self = .nulInKey(line: line, column: column)
        case json_error_out_of_memory: self = .outOfMemory
        case json_error_stack_overflow: self = .tooDeep(limit: Int(JSON_PARSER_MAX_DEPTH))
        default: self = .malformed(line: line, column: column)
        }
    }
}
