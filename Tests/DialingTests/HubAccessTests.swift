import Synchronization
import TLS
import Testing
import Wire

@testable import Dialing

@Suite struct HubAccessTests {
    /// The pair of the moment, as an agent's files hold it.
    private final class Holder: Sendable {
        private let pair: Mutex<ClientPair>
        init() throws { pair = Mutex(try Self.make(0)) }

        var current: ClientPair { pair.withLock { $0 } }
        func renew(_ generation: Int) throws {
            let fresh = try Self.make(generation)
            pair.withLock { $0 = fresh }
        }

        private static func make(_ generation: Int) throws -> ClientPair {
            let key = try PrivateKey(generating: .p256)
            let leaf = try Certificate.bearer(of: key, commonName: "d")
            return ClientPair(chain: CertificateChain(leaf: leaf, others: []), key: key, generation: generation)
        }
    }

    @Test func aRenewedPairBeginsAnewAndTheOldOnesSessionsAreForgotten() throws {
        let holder = try Holder(), access = try HubAccess(identity: { holder.current }), place = HostPort(host: "hub.example", port: 443)
        let first = access.means(for: place), again = access.means(for: place)
        #expect(first.context === again.context && first.cache === again.cache)
        try holder.renew(1)
        let renewed = access.means(for: place)
        #expect(renewed.context !== first.context && renewed.cache !== first.cache)
        let other = access.means(for: HostPort(host: "other.example", port: 443))
        #expect(other.context === renewed.context && other.cache !== renewed.cache)
    }

    @Test func whoShowsNothingKeepsItsSessions() throws {
        let access = try HubAccess(), place = HostPort(host: "hub.example", port: 443)
        #expect(access.means(for: place).cache === access.means(for: place).cache)
    }
}
