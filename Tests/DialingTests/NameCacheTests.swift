import LinuxIO
import Testing

@testable import Dialing

@Suite struct NameCacheTests {
    private let address = [SocketAddress(address: "192.0.2.1", port: 443)].compactMap(\.self)

    @Test func knowsAnAnswerForAMinuteAndAsksAgainOnceAfterwards() {
        var cache = NameCache()
        #expect(cache.look(up: "hub.example", 443, at: 0) == nil)
        cache.keep(address, of: "hub.example", 443, at: 1000)
        #expect(cache.look(up: "hub.example", 8443, at: 1000) == nil)
        #expect(cache.look(up: "hub.example", 443, at: 60_999)?.wantsRefresh == false)
        let old = cache.look(up: "hub.example", 443, at: 61_000)
        #expect(old?.wantsRefresh == true)
        #expect(old?.addresses == address)
        #expect(cache.look(up: "hub.example", 443, at: 61_001)?.wantsRefresh == false)  // somebody is asking
        #expect(cache.look(up: "hub.example", 443, at: 70_000)?.wantsRefresh == true)  // that brought nothing
        cache.keep(address, of: "hub.example", 443, at: 70_100)
        #expect(cache.look(up: "hub.example", 443, at: 70_200)?.wantsRefresh == false)
    }

    @Test func forgetsWhatIsTooOldOrWasWrong() {
        var cache = NameCache()
        cache.keep(address, of: "a", 1, at: 0)
        cache.keep(address, of: "b", 1, at: 0)
        cache.keep([], of: "c", 1, at: 0)
        #expect(cache.look(up: "c", 1, at: 0) == nil)
        cache.forget("b", 1)
        #expect(cache.look(up: "b", 1, at: 0) == nil)
        #expect(cache.look(up: "a", 1, at: NameCache.staleMilliseconds - 1) != nil)
        #expect(cache.look(up: "a", 1, at: NameCache.staleMilliseconds) == nil)
    }

    @Test func staysSmall() {
        var cache = NameCache()
        for index in 0..<1000 { cache.keep(address, of: "name\(index)", 1, at: 0) }
        #expect((0..<1000).filter { cache.look(up: "name\($0)", 1, at: 0) != nil }.count <= 64)
    }
}
