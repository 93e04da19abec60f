import Console
import Glibc
import LinuxIO
import Wire

/// Requests that wait for the person at the device: a pair of files for each, `ID.json` that says what it is and `ID.fifo` that takes
/// `accept` or `reject REASON` on a line. Both go when it is decided.
final class RequestDesk {
    enum Verdict: Equatable { case accepted, rejected(String?), timedOut }

    private let directory: String
    private let client: ClientIdentity

    /// Makes the directory, and removes what an agent left there that is not running any more.
    init(in runDirectory: String, for client: ClientIdentity) throws(SystemError) {
        directory = "\(runDirectory)/requests"
        self.client = client
        try Files.makeDirectory(directory)
        for name in try Files.names(in: directory) where name.hasSuffix(".fifo") {
            let fifo = "\(directory)/\(name)"
            let descriptor = open(fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW)
            if descriptor >= 0 {
                close(descriptor)  // somebody reads it
            } else if errno == ENXIO {
                unlink(fifo)
                unlink("\(directory)/\(name.dropLast(5)).json")
            }
        }
    }

    /// Lays a request before the person; the answer comes once, later.
    func ask(
        about name: String, to target: Target, withinSeconds seconds: Int, on reactor: Reactor,
        _ answer: @escaping (Verdict, Reactor) -> Void
    ) throws(SystemError) -> WaitingRequest {
        let id = String(String(UInt64.random(in: 1 << 32..<1 << 33), radix: 16).dropFirst())
        let now = Clock.unixSeconds, path = "\(directory)/\(id)"
        guard mkfifo("\(path).fifo", 0o600) == 0 else { throw SystemError("mkfifo") }
        let descriptor = open("\(path).fifo", O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW)  // with a writer of ours it never ends
        guard descriptor >= 0 else {
            let error = SystemError("open")
            unlink("\(path).fifo")
            throw error
        }
        let document = JSONValue.object(of: [
            "id": .string(id), "name": .string(name), "target": .string(target.description), "device": .string(client.deviceID),
            "module": client.moduleID.map { .string($0) }, "since": .string(Self.text(now)),
            "until": .string(Self.text(now + Int64(seconds))),
        ])
        let waiting = WaitingRequest(id: id, path: path, OwnedDescriptor(adopting: descriptor), answer)
        do throws(SystemError) {
            try Files.replace("\(path).json", with: Array((document.text() + "\n").utf8), mode: 0o600, isDurable: false)
            try waiting.start(withinSeconds: seconds, on: reactor)
        } catch {
            unlink("\(path).fifo")
            unlink("\(path).json")
            throw error
        }
        return waiting
    }

    /// `2026-11-21T01:02:03Z`.
    private static func text(_ unixSeconds: Int64) -> String {
        var moment = time_t(unixSeconds), parts = tm(), room = [CChar](repeating: 0, count: 32)
        guard gmtime_r(&moment, &parts) != nil else { return "" }
        let count = strftime(&room, room.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
        return String(decoding: room.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// A request that lies before the person.
final class WaitingRequest: Source {
    let id: String
    private let path: String
    private let fifo: OwnedDescriptor
    private var line: [UInt8] = []
    private var answer: ((RequestDesk.Verdict, Reactor) -> Void)?

    fileprivate init(
        id: String, path: String, _ fifo: consuming OwnedDescriptor, _ answer: @escaping (RequestDesk.Verdict, Reactor) -> Void
    ) {
        self.id = id
        self.path = path
        self.answer = answer
        self.fifo = fifo
        super.init()
    }

    fileprivate func start(withinSeconds seconds: Int, on reactor: Reactor) throws(SystemError) {
        try reactor.add(self, descriptor: fifo.raw, .readable)
        reactor.setDeadline(of: self, inMilliseconds: seconds * 1000)
    }

    override var isBackground: Bool { true }
    override func deadlinePassed(on reactor: Reactor) { finish(.timedOut, on: reactor) }
    override func abort(on reactor: Reactor) { cancel(on: reactor) }

    /// Takes the request away without an answer.
    func cancel(on reactor: Reactor) {
        answer = nil
        finish(nil, on: reactor)
    }

    override func ready(_ readiness: Readiness, on reactor: Reactor) {
        var room = [UInt8](repeating: 0, count: 1024)
        let count = read(fifo.raw, &room, room.count)
        guard count > 0 else { return }
        for byte in room[..<count] {
            guard byte == UInt8(ascii: "\n") else {
                if line.count < 1024 { line.append(byte) }
                continue
            }
            let text = String(decoding: exchange(&line, with: []), as: UTF8.self)
            if text == "accept" { return finish(.accepted, on: reactor) }
            if text == "reject" { return finish(.rejected(nil), on: reactor) }
            if text.hasPrefix("reject ") { return finish(.rejected(String(text.dropFirst(7))), on: reactor) }
            Log.warning("answer-malformed", ["request": id, "remedy": "write accept, reject or reject REASON"])
        }
    }

    private func finish(_ verdict: RequestDesk.Verdict?, on reactor: Reactor) {
        reactor.remove(self, descriptor: fifo.raw)
        unlink("\(path).fifo")
        unlink("\(path).json")
        if let verdict { answer.take()?(verdict, reactor) }
    }
}
