/// What a parser makes of the bytes seen so far.
///
/// `needMoreData` consumes nothing and names the least number of bytes, counted from the same start, with which another
/// attempt can get further. Malformed input is neither: it is thrown, and for every split of one input the verdict is the same.
package enum Parsed<Value> {
    case needMoreData(total: Int)
    case complete(Value, consumed: Int)
}

extension Parsed: Equatable where Value: Equatable {}
extension Parsed: Sendable where Value: Sendable {}
