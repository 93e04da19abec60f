import Bytes
import Connections
import Glibc
import LinuxIO

/// The agent's own service, `bench`: what `iotstream bench` measures with (iotstream-protocol(7)). One command for each stream, on a line:
///
///     echo          ok, then what comes goes back
///     discard       ok, then at the end of what comes how many bytes that were, in decimal, on a line
///     source N      ok, then N bytes, then the end
///
/// Anything else gets a line that begins with `error`, and the end. Nothing is kept but what waits to be written, which is bounded.
final class MeasuringService: Connection {
    enum Command: Equatable {
        case echo, discard
        case source(UInt64)

        /// A line without its end; nil when it is none of the commands.
        init?(_ line: RawSpan) {
            let words = line.withUnsafeBytes { Array($0) }.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
            switch (words.first.map { String(decoding: $0, as: UTF8.self) }, words.count) {
            case ("echo", 1): self = .echo
            case ("discard", 1): self = .discard
            case ("source", 2):
                guard 1...19 ~= words[1].count, words[1].allSatisfy({ 0x30...0x39 ~= $0 }),
                    let count = UInt64(String(decoding: words[1], as: UTF8.self))
                else { return nil }
                self = .source(count)
            default: return nil
            }
        }
    }

    /// The longest line, its end included.
    static let lineLimit = 64
    private static let block = [UInt8](repeating: 0x5A, count: 65536)

    private var command: Command?
    private var received: UInt64 = 0
    private var remaining: UInt64 = 0
    private var isInputOver = false

    /// Starts one, and gives the socket by which it is reached.
    static func open(on reactor: Reactor) throws(SystemError) -> OwnedDescriptor {
        var pair: [CInt] = [-1, -1]
        let kind = CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &pair) == 0 else { throw SystemError("socketpair") }
        let near = OwnedDescriptor(adopting: pair[0])
        MeasuringService(Channel(Transport(OwnedDescriptor(adopting: pair[1])))).start(on: reactor)
        return near
    }

    override func received(_ bytes: RawSpan, _ channel: inout Channel, on reactor: Reactor) throws -> Int {
        var rest = bytes
        if command == nil {
            guard let end = (0..<min(bytes.byteCount, Self.lineLimit)).first(where: { bytes.byte(at: $0) == 0x0A }) else {
                guard bytes.byteCount >= Self.lineLimit else { return 0 }
                refuse(&channel)
                return bytes.byteCount
            }
            guard let command = Command(bytes.extracting(0..<end)) else {
                refuse(&channel)
                return bytes.byteCount
            }
            self.command = command
            channel.output.append("ok\n")
            if case .source(let count) = command {
                remaining = count
                produce(&channel.output)
                endWhenAllIsSaid(&channel)
            }
            rest = bytes.extracting(droppingFirst: end + 1)
        }
        switch command {
        case .echo: channel.output.append(rest)
        case .discard: received &+= UInt64(rest.byteCount)
        case .source, nil: break
        }
        return bytes.byteCount
    }

    private func refuse(_ channel: inout Channel) {
        channel.output.append("error write echo, discard or source N\n")
        channel.finishLingering()
    }

    /// Fills the output up to its mark.
    private func produce(_ output: inout ByteQueue) {
        while remaining > 0, output.count <= Channel.highWater {
            let count = Int(min(remaining, UInt64(Self.block.count)))
            output.append(Self.block.span.bytes.extracting(first: count))
            remaining -= UInt64(count)
        }
    }

    private func endWhenAllIsSaid(_ channel: inout Channel) { if remaining == 0 { channel.finishWriting() } }

    override func drained(on reactor: Reactor) {
        guard case .source = command, remaining > 0 else { return }
        send(on: reactor) { produce(&$0) }
        guard remaining == 0 else { return }
        if isInputOver { finish(on: reactor) } else { finishWriting(on: reactor) }
    }

    override func inputEnded(_ channel: inout Channel, on reactor: Reactor) throws {
        isInputOver = true
        switch command {
        case .discard: channel.output.append("\(received)\n")
        case .source where remaining > 0: return  // it says no more, and still reads
        default: break
        }
        channel.finish()
    }

    /// A stream that runs goes on while its process drains.
    override func drain(on reactor: Reactor) {}
    /// The bridge is waited for.
    override var isBackground: Bool { true }
}
