import FuzzSupport
import Query
import Wire

@main
enum QueryFuzz {
    static func main() {
        runFuzzer(fuzzQuery)
    }
}

private let documents: [JSONValue] = [
    [:],
    ["deviceId": "d", "status": "enabled", "version": 2, "tags": ["a": 1, "b": "x", "c": [1, 2], "d": ["e": true]], "n": .null],
    ["deviceId": "é", "tags": ["a": .integer(.min), "b": "", "c": .double(1e308)], "properties": ["reported": ["$version": 1]]],
]

private func fuzzQuery(_ input: inout FuzzInput) {
    let text = String(decoding: input.bytes, as: UTF8.self)
    let characters = text.unicodeScalars.count
    do throws(QuerySyntaxError) {
        let query = try Query(parsing: text)
        check((try? Query(parsing: text)) == query, "a text has one meaning")
        check((try? Query(parsing: text + " ;")) == query || text.contains(";"), "an end changes nothing")
        for document in documents {
            let verdict = query.matches(document)
            check(query.matches(document) == verdict, "a document is judged once and for all")
            if case .devices(let ids) = query.scope, verdict, query.source == .devices {
                check(document["deviceId"]?.string.map(ids.contains) == true || document["deviceId"] == nil, "who matches is in the scope")
            }
            let row = query.row(document)
            check((try? JSONValue.parse(row.bytes())) != nil, "a row is a document")
        }
        if query.isAggregate {
            var groups = QueryAggregation(query)
            for document in documents { try? groups.add(document) }
            check(groups.rows().map(\.row) == groups.rows().map(\.row), "rows have one order")
        }
    } catch {
        check((1...characters + 2).contains(error.position) || characters > Query.longestText, "a mistake has its place in the text")
    }
    _ = try? Query.parse(condition: text)
}
