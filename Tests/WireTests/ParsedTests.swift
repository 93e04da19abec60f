import Testing
import Wire

@Test func aWishForMoreIsNotAValue() {
    #expect(Parsed<Int>.needMoreData(total: 2) != .complete(2, consumed: 2))
}
