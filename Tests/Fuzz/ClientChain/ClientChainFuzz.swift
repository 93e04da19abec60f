import FuzzSupport
import TLS

@main
enum ClientChainFuzz {
    static func main() {
        runFuzzer(fuzzClientChain)
    }
}

/// One byte says how many of the certificates at the end are authorities; then each has two bytes of length, big endian, and its DER.
private func fuzzClientChain(_ input: inout FuzzInput) {
    guard let count = input.bytes.first else { return }
    var rest = input.bytes.dropFirst(), all: [Certificate] = []
    while rest.count > 2, all.count < 16 {
        let length = rest.prefix(2).reduce(0) { $0 << 8 | Int($1) }
        if let certificate = try? Certificate(der: Array(rest.dropFirst(2).prefix(length))) { all.append(certificate) }
        rest = rest.dropFirst(2 + length)
    }
    let authorities = Array(all.suffix(Int(count))), presented = Array(all.dropLast(Int(count)))
    let time: Int64 = 1_800_000_000
    let verdict = judge(presented, authorities, time)
    check(judge(presented, authorities, time)?.der == verdict?.der, "the verdict on one list is always the same")
    guard let verdict else { return }
    check(authorities.contains { $0.isSame(as: verdict) }, "a way ends at an authority")
    let turned = presented.prefix(1) + presented.dropFirst().reversed()
    check(judge(Array(turned), authorities, time) != nil, "the order of the others says nothing")
    check(judge(presented, [], time) == nil, "nothing is trusted for being shown")
}

private func judge(_ presented: [Certificate], _ authorities: [Certificate], _ time: Int64) -> Certificate? {
    do throws(ChainFault) {
        return try ClientChain.judge(presented: presented, authorities: authorities, at: time)
    } catch {
        check(!error.words.isEmpty && !error.code.isEmpty, "a refusal has words")
        return nil
    }
}
