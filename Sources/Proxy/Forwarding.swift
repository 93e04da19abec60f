import Console
import Glibc
import LinuxIO
import Wire

/// The work of `iotstream forward`: listeners, what came in on them, and the signals. On one reactor.
final class Forwarding {
    private var settings: ServiceSettings
    private let client: ClientIdentity
    private let mappings: [PortMapping]
    private let address: BindAddress
    private let wantsJSON: Bool
    private let reread: () throws(Failure) -> ServiceSettings
    private var service: HubService
    private var connections: [ObjectIdentifier: ForwardedConnection] = [:]
    private var complaints = Complaints()
    private(set) var isEnding = false

    /// - Parameter reread: makes the settings again, from the files as they are then.
    init(
        _ settings: ServiceSettings, client: ClientIdentity, mappings: [PortMapping], address: BindAddress, wantsJSON: Bool,
        reread: @escaping () throws(Failure) -> ServiceSettings
    ) throws(Failure) {
        self.settings = settings
        self.client = client
        self.mappings = mappings
        self.address = address
        self.wantsJSON = wantsJSON
        self.reread = reread
        service = try HubService(settings, role: "forward")
    }

    /// Runs until it is told to end.
    func run() throws(Failure) {
        try MainLoop.run(signalled: { [self] number, reactor in signalled(number, on: reactor) }) { reactor throws(Failure) in
            try start(on: reactor)
        }
    }

    private func start(on reactor: Reactor) throws(Failure) {
        // All sockets first: a port that cannot be had is found out before a line says that another is open.
        var opened: [(place: SocketAddress, target: StreamTarget)] = []
        for mapping in mappings {
            let target = StreamTarget(client: client, remote: mapping.remote)
            opened.append((try listen(mapping, target, on: reactor), target))
        }
        for (place, target) in opened { try announce(place, target) }
        service.start(warmFor: settings.warm, on: reactor)
        if wantsJSON { try Output.flush() }
        ServiceNotification.send("READY=1")
    }

    private func announce(_ place: SocketAddress, _ target: StreamTarget) throws(Failure) {
        Output.tell("iotstream forward: \(place) -> \(target)")
        guard wantsJSON else { return }
        try Output.jsonLine(
            .object(of: [
                "address": .string(place.host), "port": .integer(Int64(place.port)), "device": .string(client.deviceID),
                "module": client.moduleID.map { .string($0) }, "remote": .string(target.remote),
            ]))
    }

    /// Opens the port of one mapping, by its rule.
    func listen(_ mapping: PortMapping, _ target: StreamTarget, on reactor: Reactor) throws(Failure) -> SocketAddress {
        let wish: UInt16 =
            switch mapping.local {
            case .exactly(let port), .preferably(let port): port
            case .any: 0
            }
        do throws(SystemError) {
            return try open(wish, target, on: reactor)
        } catch {
            if case .preferably = mapping.local, error.number == EADDRINUSE || error.number == EACCES {
                do throws(SystemError) { return try open(0, target, on: reactor) } catch {
                    throw .errno(error.number, address.at(0).description)
                }
            }
            let remedy = error.number == EADDRINUSE ? "choose another local port, or 0 for a free one" : ""
            throw .errno(error.number, address.at(wish).description, remedy)
        }
    }

    private func open(_ port: UInt16, _ target: StreamTarget, on reactor: Reactor) throws(SystemError) -> SocketAddress {
        let listener = try Listener(try Listener.open(at: address.at(port)), on: reactor) { [self] socket, peer, reactor in
            accepted(socket, peer, target, on: reactor)
        }
        return listener.address ?? address.at(port)
    }

    private func accepted(_ socket: consuming OwnedDescriptor, _ peer: SocketAddress?, _ target: StreamTarget, on reactor: Reactor) {
        guard !isEnding else { return }
        let connection = ForwardedConnection(socket, from: peer, to: target, at: service, of: self, on: reactor)
        connections[ObjectIdentifier(connection)] = connection
    }

    /// Local connections that are not over.
    var connectionCount: Int { connections.count }

    func forget(_ connection: ForwardedConnection) { connections[ObjectIdentifier(connection)] = nil }

    /// One line for the person, unless it has just been said.
    func complain(_ text: String, on reactor: Reactor) {
        guard let line = complaints.line(for: text, now: reactor.now) else { return }
        Output.report(.refused(line), role: "forward")
    }

    // Signals

    private func signalled(_ number: CInt, on reactor: Reactor) {
        switch number {
        case SIGTERM, SIGINT: end(on: reactor)
        case SIGHUP: reload(on: reactor)
        default: break
        }
    }

    /// Takes all of the new settings, or keeps all of the old. Ports stay as they are.
    private func reload(on reactor: Reactor) {
        do throws(Failure) {
            let fresh = try reread(), renewed = try HubService(fresh, role: "forward")
            service.stop(on: reactor)
            (settings, service) = (fresh, renewed)
            service.start(warmFor: settings.warm, on: reactor)
            Log.notice("reloaded")
        } catch {
            Output.warn(role: "forward", "\(error.what): the settings stay as they were")
        }
    }

    /// Listens no more and lets what runs come to its end; a second signal breaks it off.
    private func end(on reactor: Reactor) {
        guard !isEnding else { return breakOff(on: reactor) }
        isEnding = true
        ServiceNotification.send("STOPPING=1")
        if !connections.isEmpty {
            let count = connections.count
            Output.tell(
                "iotstream forward: ending, \(count) connection\(count == 1 ? "" : "s") may take \(settings.drainSeconds) s more")
        }
        let timer = Timer(on: reactor) { [self] _, reactor in breakOff(on: reactor) }
        timer.set(inMilliseconds: settings.drainSeconds * 1000, on: reactor)
        reactor.drain(withinMilliseconds: settings.drainSeconds * 1000 + 1000)
    }

    /// Resets what is left, with a moment for the last frames to go out.
    private func breakOff(on reactor: Reactor) {
        for connection in Array(connections.values) { connection.abort(on: reactor) }
        let timer = Timer(on: reactor) { _, reactor in reactor.stop() }
        timer.set(inMilliseconds: 500, on: reactor)
    }
}
