import Console
import TLS
import Wire

/// Looking at certificates without changing anything.
enum Inspection {
    /// Prints every certificate of every file.
    static func show(_ paths: [String], json: Bool) throws(Failure) {
        var reports: [CertificateReport] = []
        for path in paths {
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

    /// Prints the thumbprint of the first certificate: upper-case hex, as the registry stores it.
    static func thumbprint(_ path: String, sha1: Bool, json: Bool) throws(Failure) {
        let leaf = try readChain(path).leaf
        let text = sha1 ? leaf.sha1Thumbprint : leaf.sha256Thumbprint
        guard json else { return try Output.line(text) }
        try Output.json(.object(of: ["file": .string(path), "algorithm": .string(sha1 ? "sha1" : "sha256"), "thumbprint": .string(text)]))
    }

    /// Checks a file's first certificate, with the others as intermediates, against the certificates of `caPath`.
    static func verify(
        _ path: String, caPath: String, purpose: CertificatePurpose, strict: Bool, now: Int64, json: Bool
    ) throws(Failure) {
        let chain = try readChain(path)
        let anchors = try readChain(caPath).certificates
        switch check(chain, anchors, purpose, strict, now) {
        case .success(let way):
            if json {
                let chain = way.map { CertificateReport(certificate: $0, path: nil).json }
                return try Output.json(.object(of: ["file": .string(path), "valid": true, "chain": .array(chain)]))
            }
            try Output.line("\(Printable.oneLine(path)): ok")
            for each in way { try Output.line("  \(each.subject), until \(CertificateTime.text(each.notAfter))") }
        case .failure(let failure):
            if json {
                let reasons = failure.reasons.map { JSONValue.string($0.description) }
                try Output.json(.object(of: ["file": .string(path), "valid": false, "reasons": .array(reasons)]))
            }
            throw .refused("\(path): \(failure)", failure.reasons.first.map(remedy) ?? "")
        }
    }

    private static func check(
        _ chain: CertificateChain, _ anchors: [Certificate], _ purpose: CertificatePurpose, _ strict: Bool, _ now: Int64
    ) -> Result<[Certificate], ChainFailure> {
        do throws(ChainFailure) {
            return .success(try chain.verify(anchors: anchors, purpose: purpose, time: now, strict: strict))
        } catch { return .failure(error) }
    }

    private static func remedy(_ fault: ChainFault) -> String {
        switch fault {
        case .expired: "renew it with iotstream cert renew"
        case .notYetValid: "set this machine's clock, or wait"
        case .unknownIssuer: "name the full-chain file, and with --ca the root it leads to"
        case .untrustedRoot: "name that root with --ca, if you trust it"
        case .issuerNotCA, .issuerMayNotSign, .pathTooLong, .isCA: "issue it again from a CA that may"
        case .badSignature: "find the right issuer: two of them have this name"
        case .wrongPurpose: "make one with gen-server or gen-device"
        case .nameMismatch: "make one for this name with gen-server"
        case .weak: "make a new key"
        case .other, .tooLong, .nothingShown: "look at it with iotstream cert show"
        }
    }
}
