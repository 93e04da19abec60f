import COpenSSL
import Glibc
import LinuxIO
import Testing

@testable import TLS

/// An end of an established session that carries bulk; the other end of its socket is the test's.
private final class End {
    let ours, wire: OwnedDescriptor
    private var session: TLSSession
    private let gathering = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 * 16896, alignment: 64)
    private let plain = UnsafeMutableRawBufferPointer.allocate(byteCount: 65536, alignment: 64)

    init(_ make: (CInt) throws -> TLSSession) throws {
        var ends: [CInt] = [0, 0]
        try #require(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(O_NONBLOCK), 0, &ends) == 0)
        ours = OwnedDescriptor(adopting: ends[0])
        wire = OwnedDescriptor(adopting: ends[1])
        session = try make(ends[0])
    }

    deinit {
        gathering.deallocate()
        plain.deallocate()
    }

    func handshake() throws -> Bool { try session.handshake() == .done(0) }
    func carryBulk() throws { try session.carryBulk() }
    func flush() throws -> TLSProgress { try session.flush() }
    func sayGoodbye() throws { _ = try session.sayGoodbye() }
    var isTurnOver: Bool { session.isTurnOver }

    /// Writes what it can; bytes taken.
    func write(_ bytes: ArraySlice<UInt8>) throws -> Int {
        if case .done(let count) = try bytes.withUnsafeBytes({ try session.write($0, gatheringIn: gathering) }) { count } else { 0 }
    }

    /// One turn, in which the socket is read once, by `most` bytes; reads until there is nothing more, or `enough` has come.
    func turn(_ most: Int, into bytes: inout [UInt8], enough: Int = .max, believes: Bool = true) throws -> TLSProgress {
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: most, alignment: 1)
        defer { room.deallocate() }
        session.beginTurn(through: room, believesShortReads: believes)
        defer { session.endTurn() }
        let start = bytes.count
        while bytes.count - start < enough {
            let progress = try session.read(into: plain)
            guard case .done(let count) = progress else { return progress }
            bytes += plain[..<count]
        }
        return .done(bytes.count - start)
    }
}

/// Two ends, and the wire between them: what one sends lies there until it is carried on.
private struct Line {
    let server, client: End

    init(newest: CInt = TLS1_3_VERSION) throws {
        let folder = try CertificateFolder()
        let hub = try folder.server(), device = try folder.client(newest: newest)
        server = try End { try TLSSession(acceptingOn: $0, hub) }
        client = try End { try TLSSession(connectingOn: $0, device, host: "hub.example") }
        var isServerDone = false, isClientDone = false
        while !isServerDone || !isClientDone {
            if !isClientDone { isClientDone = try client.handshake() }
            carry(from: client, to: server)
            if !isServerDone { isServerDone = try server.handshake() }
            if !isClientDone { carry(from: server, to: client) }  // the ticket stays on the wire
        }
        try server.carryBulk()
        try client.carryBulk()
    }

    /// Carries what lies on the wire and finds room, `most` bytes of it; bytes carried.
    @discardableResult
    func carry(from: End, to: End, most: Int = 65536) -> Int {
        var buffer = [UInt8](repeating: 0, count: most)
        let count = recv(from.wire.raw, &buffer, most, CInt(MSG_PEEK))
        let carried = count > 0 ? send(to.wire.raw, buffer, count, CInt(MSG_NOSIGNAL)) : 0
        return carried > 0 ? recv(from.wire.raw, &buffer, carried, 0) : 0
    }
}

@Suite struct BulkSessionTests {
    static let versions = [TLS1_2_VERSION, TLS1_3_VERSION]
    private let sample = (0..<700_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }

    @Test(arguments: versions, [1, 100, 16389, 66_000, 270_336]) func nothingIsLostHoweverMuchATurnReads(_ newest: CInt, _ most: Int) throws
    {
        let line = try Line(newest: newest), count = most == 1 ? 3000 : sample.count
        var sent = 0, got: [UInt8] = []
        while got.count < count {
            if sent < count {
                sent += try line.server.write(sample[sent..<min(count, sent + 200_000)])
            } else {
                _ = try line.server.flush()
            }
            line.carry(from: line.server, to: line.client)
            _ = try line.client.turn(most, into: &got)
        }
        #expect(got == Array(sample[..<count]))
    }

    @Test(arguments: versions) func recordsMayComeInPiecesOfAnySize(_ newest: CInt) throws {
        let line = try Line(newest: newest)
        var sent = 0, got: [UInt8] = [], pieces = SystemRandomNumberGenerator()
        for length in [1, 2, 16384, 5, 16385, 40_000, 3] {
            sent += try line.client.write(sample[sent..<sent + length])
            while line.carry(from: line.client, to: line.server, most: Int.random(in: 1...9, using: &pieces)) > 0 {
                #expect(try line.server.turn(4096, into: &got) == .blocked(onWrite: false))
            }
            #expect(got.count == sent)
        }
        #expect(got == Array(sample[..<sent]))
    }

    @Test func whatATurnLeavesIsTakenByTheNext() throws {
        let line = try Line()
        var got: [UInt8] = []
        #expect(try line.server.write(sample[..<50_000]) == 50_000)
        line.carry(from: line.server, to: line.client)
        #expect(try line.client.turn(270_336, into: &got, enough: 1) == .done(16384))
        #expect(try line.client.turn(10, into: &got, enough: 1) == .done(16384))
        _ = try line.client.turn(1, into: &got)
        #expect(got == Array(sample[..<50_000]))
    }

    @Test func aTurnThatFillsItsRoomSaysThatTheSocketMayHaveMore() throws {
        let line = try Line()
        var got: [UInt8] = []
        #expect(try line.server.write(sample[..<50_000]) == 50_000)
        line.carry(from: line.server, to: line.client)
        #expect(try line.client.turn(20_000, into: &got) == .blocked(onWrite: false) && line.client.isTurnOver)
        #expect(try line.client.turn(270_336, into: &got) == .blocked(onWrite: false) && !line.client.isTurnOver)
        #expect(got.count == 50_000)
        #expect(try line.server.write(sample[..<9]) == 9)
        line.carry(from: line.server, to: line.client)
        #expect(try line.client.turn(270_336, into: &got, believes: false) == .blocked(onWrite: false) && line.client.isTurnOver)
        #expect(try line.client.turn(270_336, into: &got, believes: false) == .blocked(onWrite: false) && !line.client.isTurnOver)
    }

    @Test func aGoodbyeAndACutAreToldApart() throws {
        for isCut in [false, true] {
            let line = try Line()
            var got: [UInt8] = []
            #expect(try line.server.write(sample[..<20_000]) == 20_000)
            if !isCut { try line.server.sayGoodbye() }
            line.carry(from: line.server, to: line.client)
            shutdown(line.client.wire.raw, CInt(SHUT_WR))
            if isCut {
                _ = try line.client.turn(270_336, into: &got)
                #expect(throws: TLSError.truncated) { try line.client.turn(270_336, into: &got) }
            } else {
                #expect(try line.client.turn(270_336, into: &got) == .closed)
            }
            #expect(got.count == 20_000)
        }
    }

    @Test func whatTheSocketDoesNotTakeWaitsAndGoesOutFirst() throws {
        let line = try Line()
        var sent = 0, got: [UInt8] = []
        while sent < sample.count {
            let count = try line.server.write(sample[sent...])
            if count == 0 { break }
            sent += count
        }
        #expect(sent < sample.count)
        while got.count < sent || sent < sample.count {
            line.carry(from: line.server, to: line.client)
            _ = try line.client.turn(270_336, into: &got)
            if sent < sample.count { sent += try line.server.write(sample[sent...]) } else { _ = try line.server.flush() }
        }
        #expect(got == sample)
    }
}
