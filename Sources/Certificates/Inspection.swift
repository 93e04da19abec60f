import Console
import TLS
import Wire

/// Looking at certificates without changing anything.
enum Inspection {
    /// Prints every certificate of every file.
    static func show(_ paths: [String], json: Bool) throws(Failure) {
        var reports: [CertificateReport] = []
        for path in paths {
            if let request = try request(path) {
                guard paths.count == 1 else { throw .usage("\(path): a request", "show it by itself") }
                return try print(request, path, keyPath: nil, json: json)
            }
            for certificate in try readChain(path).certificates { reports.append(CertificateReport(certificate: certificate, path: path)) }
        }
        if json {
            try Output.json(.array(reports.map(\.json)))
            return
        }
        for (index, report) in reports.enumerated() {
            if index > 0 { try Output.line("") }
            for line in report.lines(brief: false) { try Output.line(line) }
        }
    }

    /// The request in the file; nil when something else is in it.
    private static func request(_ path: String) throws(Failure) -> CertificateRequest? {
        guard path != "-" else { return nil }
        let bytes = try InputFile.read(path, limit: CredentialFile.limit)
        do throws(CertificateError) { return try CertificateRequest(bytes: bytes) } catch {
            guard String(decoding: bytes, as: UTF8.self).contains(text: "CERTIFICATE REQUEST-----") else { return nil }
            throw error.failure(path)
        }
    }

    /// Prints what a request asks for.
    static func print(_ request: CertificateRequest, _ path: String, keyPath: String?, json: Bool) throws(Failure) {
        let names = request.alternativeNames.map { JSONValue.string($0.description) }
        let facts: [(word: String, value: JSONValue?)] = [
            ("request", .string(path)), ("key", keyPath.map { .string($0) }), ("subject", .string(request.subject)),
            ("names", names.isEmpty ? nil : .array(names)), ("publicKey", .string("\(request.keyAlgorithm), \(request.keyBits) bits")),
        ]
        var members = JSONObject()
        for fact in facts { members[fact.word] = fact.value }
        if json { return try Output.json(.object(members)) }
        for (word, value) in members {
            let text = value.string ?? value.array?.compactMap(\.string).joined(separator: ", ") ?? ""
            let label = word == "publicKey" ? "public key" : word
            try Output.line(label + String(repeating: " ", count: max(1, 16 - label.utf8.count)) + Printable.oneLine(text))
        }
    }

    /// Prints the thumbprint of the first certificate: upper-case hex, as the registry stores it.
    static func thumbprint(_ path: String, sha1: Bool, json: Bool) throws(Failure) {
        let leaf = try readChain(path).leaf
        let text = sha1 ? leaf.sha1Thumbprint : leaf.sha256Thumbprint
        guard json else { return try Output.line(text) }
        try Output.json(.object(of: ["file": .string(path), "algorithm": .string(sha1 ? "sha1" : "sha256"), "thumbprint": .string(text)]))
    }

    /// Checks a file's first certificate, with the others as intermediates, against the certificates of `caPath`.
    /// - Parameter device: judge it as a hub does whose authorities those are, for this device or `{deviceId}/{moduleId}`.
    static func verify(
        _ path: String, caPath: String, purpose: CertificatePurpose, device: String?, strict: Bool, now: Int64, json: Bool
    ) throws(Failure) {
        let chain = try readChain(path)
        let anchors = try readChain(caPath).certificates
        switch check(chain, anchors, purpose, device, strict, now) {
        case .success(let way):
            if json {
                let chain = way.map { CertificateReport(certificate: $0, path: nil).json }
                return try Output.json(.object(of: ["file": .string(path), "valid": true, "chain": .array(chain)]))
            }
            try Output.line("\(Printable.oneLine(path)): ok")
            for each in way { try Output.line("  \(each.subject), until \(CertificateTime.text(each.notAfter))") }
        case .failure(let failure):
            if json {
                let reasons = failure.reasons.map { JSONValue.string($0.words) }, codes = failure.reasons.map { JSONValue.string($0.code) }
                try Output.json(
                    .object(of: ["file": .string(path), "valid": false, "reasons": .array(reasons), "codes": .array(codes)]))
            }
            // People who put chains together begin at the root.
            let isUpsideDown = chain.leaf.isCA && chain.others.contains { !$0.isCA }
            let hint = failure.reasons.first.map { remedy($0, isDevice: device != nil) } ?? ""
            throw .refused("\(path): \(failure)", isUpsideDown ? "put the certificate that is no CA first in the file" : hint)
        }
    }

    private static func check(
        _ chain: CertificateChain, _ anchors: [Certificate], _ purpose: CertificatePurpose, _ device: String?, _ strict: Bool, _ now: Int64
    ) -> Result<[Certificate], ChainFailure> {
        if let device {
            do throws(ChainFault) {
                _ = try ClientChain.judge(presented: chain.certificates, authorities: anchors, at: now)
                try ClientChain.judgeName(chain.leaf, is: device)
            } catch { return .failure(ChainFailure(reasons: [error])) }
        }
        do throws(ChainFailure) {
            return .success(try chain.verify(anchors: anchors, purpose: purpose, time: now, strict: strict))
        } catch { return .failure(error) }
    }

    private static func remedy(_ fault: ChainFault, isDevice: Bool) -> String {
        switch fault {
        case .expired: "renew it with iotstream cert renew"
        case .notYetValid: "set this machine's clock, or wait"
        case .unknownIssuer: "name the full-chain file, and with --ca the root it leads to"
        case .untrustedRoot: "name that root with --ca, if you trust it"
        case .issuerNotCA, .issuerMayNotSign, .pathTooLong, .isCA: "issue it again from a CA that may"
        case .badSignature: "find the right issuer: two of them have this name"
        case .wrongPurpose: "make one with gen-server or gen-device"
        case .nameMismatch: "make one for this name with \(isDevice ? "gen-device" : "gen-server")"
        case .weak: "make a new key"
        case .other, .tooLong, .nothingShown: "look at it with iotstream cert show"
        }
    }
}
