import Console
import Registry
import Wire

/// `iotstream twin …`: what the service wants of a device or a module, and what that says of itself.
enum TwinCommand {
    static let command = Command(
        name: "twin", summary: "shows and changes twins of devices and modules",
        details: """
            A twin has tags, which its device never sees, desired properties, of whose changes the device hears at once, and reported \
            properties, which the device alone writes. Over REST this needs a policy with ServiceConnect.
            """,
        options: Administration.options + [.value("module", "ID", "the twin of this module of the device")],
        subcommands: [show, update, replace],
        examples: [
            Example("iotstream twin show press-17", "prints the whole twin"),
            Example(#"iotstream twin update press-17 '{"tags":{"plant":"R43"}}'"#, "sets a tag and leaves everything else"),
            Example(
                #"iotstream twin update press-17 '{"properties":{"desired":{"speed":3,"mode":null}}}'"#,
                "sets one desired property and removes another"),
        ])

    private static let id = Operand("ID", .one, "the device, or DEVICE/MODULE")
    private static let json = Operand("JSON", .one, "tags and properties.desired as in the twin, or @FILE", completion: .file)
    private static let etag = Option.value("etag", "ETAG", "only if the twin still has this etag")

    private static func name(_ arguments: Arguments) throws(Failure) -> ClientIdentity {
        try .named(by: arguments, "ID")
    }

    // MARK: - show

    private static let show = Command(name: "show", summary: "prints a twin", operands: [id], run: runShow)

    @Sendable private static func runShow(_ arguments: Arguments) throws(Failure) {
        let name = try name(arguments)
        try show(try Administration.find(arguments).twin(name), arguments)
    }

    private static func show(_ twin: JSONValue, _ arguments: Arguments) throws(Failure) {
        try arguments.wantsJSON ? Output.json(twin) : Output.line(twin.text(style: .pretty))
    }

    // MARK: - update, replace

    private static let update = Command(
        name: "update", summary: "merges into tags and desired properties, and prints the twin",
        details: "Objects are merged, null removes, everything else replaces. A section that is not named stays as it is.",
        options: [etag], operands: [id, json], run: runUpdate)
    private static let replace = Command(
        name: "replace", summary: "replaces tags and desired properties, and prints the twin",
        details: "A section that is not named becomes empty.",
        options: [etag], operands: [id, json], run: runReplace)

    @Sendable private static func runUpdate(_ arguments: Arguments) throws(Failure) { try change(arguments, replaces: false) }
    @Sendable private static func runReplace(_ arguments: Arguments) throws(Failure) { try change(arguments, replaces: true) }

    private static func change(_ arguments: Arguments, replaces: Bool) throws(Failure) {
        let name = try name(arguments)
        let example = #"write it like {"tags":{…},"properties":{"desired":{…}}}"#
        let wanted = try JSONArgument.value(try arguments.required("JSON"), example)
        guard wanted["tags"] != nil || wanted["properties"]?["desired"] != nil else {
            throw .data("neither tags nor properties.desired in it", example)
        }
        let twin = try Administration.find(arguments).changeTwin(name, wanted, etag: etagText(arguments), replaces: replaces)
        try show(twin, arguments)
    }

    /// Without the quotes that the header `ETag` has.
    private static func etagText(_ arguments: Arguments) -> String? {
        guard let text = arguments.text("etag") else { return nil }
        guard case .etag(let etag) = IfMatch(header: text) else { return text }
        return etag
    }
}
