import Console
import Glibc
import Store
import Wire

/// `iotstream stream …`: what streams are open, and ending them.
enum StreamCommand {
    static let command = Command(
        name: "stream", summary: "lists and closes open streams",
        details: "Without a connection string this reads the files under STATE/run/streams; removing one of them closes its stream.",
        options: Administration.options, subcommands: [list, close],
        examples: [Example("iotstream stream list", "shows who is connected to what, and how much went through")])

    private static let list = Command(name: "list", summary: "lists the open streams", run: runList)

    @Sendable private static func runList(_ arguments: Arguments) throws(Failure) {
        let documents: [JSONValue] =
            switch try StreamPlace(arguments) {
            case .files(let directory): try StatusDirectory.documents(in: directory).map(\.document)
            case .service(let client): try client.get(["streams"]).array ?? []
            }
        guard !arguments.wantsJSON else { return try Output.json(.array(documents)) }
        try Output.table(
            ["ID", "DEVICE", "NAME", "STATE", "MODE", "SINCE", "TO DEVICE", "TO SERVICE", "SERVICE"],
            documents.map { document in
                let module = document["moduleId"]?.string.flatMap { $0.isEmpty ? nil : $0 }
                let device = document["deviceId"]?.string ?? ""
                return [text(document["id"]), module.map { "\(device)/\($0)" } ?? device]
                    + ["name", "state", "mode", "since", "bytesToDevice", "bytesToService", "servicePeer"].map { text(document[$0]) }
            })
    }

    private static func text(_ value: JSONValue?) -> String {
        guard let value, !value.isNull else { return "" }
        return value.string ?? value.text()
    }

    private static let close = Command(
        name: "close", summary: "closes a stream on both sides", operands: [Operand("ID", .one, "as stream list shows it")], run: runClose)

    @Sendable private static func runClose(_ arguments: Arguments) throws(Failure) {
        let id = try arguments.required("ID")
        let missing = Failure.refused("\(id): no such stream", "iotstream stream list shows them")
        switch try StreamPlace(arguments) {
        case .files(let directory):
            let path = try StatusDirectory.path(of: id, in: directory)
            guard unlink(path) == 0 else { throw errno == ENOENT ? missing : .errno(errno, path) }
        case .service(let client):
            // The one thing that a hub says to it with a document.
            guard try client.send("DELETE", ["streams", id], nil, alsoAccepting: [404]).isNull else { throw missing }
        }
    }
}

/// Where streams are seen: the run directory of a hub on this machine, or a hub over REST. No registry is opened for either.
private enum StreamPlace {
    case files(String)
    case service(ServiceClient)

    init(_ arguments: Arguments) throws(Failure) {
        switch try Administration.place(arguments) {
        case .service(let client): self = .service(client)
        case .state(let paths):
            guard access(paths.state, X_OK) == 0 else {
                let remedy = errno == ENOENT ? "start a hub there, or name another with --state" : "run as the user that owns it"
                throw .errno(errno, paths.state, remedy)
            }
            self = .files(paths.streams)
        }
    }
}
