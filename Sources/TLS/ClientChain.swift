/// The judgement of a client's certificates by the rules of a hub (attestation sections 4 and 5.2). Possession of the leaf's key has been
/// proved by the handshake, and whether the leaf names the right device is the caller's to say (`judgeName`).
package enum ClientChain {
    /// The most certificates that are looked through: a list comes from the network, and every one of them may cost a signature.
    package static let mostPresented = 10
    /// The longest RSA key that is tried, in bits.
    private static let longestKey = 8192

    /// Checks a leaf and finds the way from it up to a registered authority.
    ///
    /// - Parameters:
    ///   - presented: leaf first; the order of the others says nothing.
    ///   - authorities: roots or intermediates. One that was presented, or issued the leaf or a presented intermediate, ends the way:
    ///     what is above it does not matter.
    ///   - time: unix seconds; every certificate of the way, the authority's too, must be within its dates.
    /// - Returns: the authority.
    package static func judge(presented: [Certificate], authorities: [Certificate], at time: Int64) throws(ChainFault) -> Certificate {
        guard let leaf = presented.first else { throw .nothingShown }
        try judgeLeaf(leaf, at: time)
        guard let authority = try way(presented: presented, authorities: authorities, at: time).last else { throw .nothingShown }
        return authority
    }

    /// The way from a leaf that has been judged, leaf first, authority last.
    static func way(presented: [Certificate], authorities: [Certificate], at time: Int64) throws(ChainFault) -> [Certificate] {
        guard let leaf = presented.first else { throw .nothingShown }
        guard presented.count <= mostPresented else { throw .tooLong(limit: mostPresented) }
        for other in presented where other.publicKeyBits > longestKey {
            throw .other(subject: other.subject, reason: "its key has more than \(longestKey) bits")
        }
        let chain = CertificateChain(leaf: leaf, others: presented.dropFirst())
        // An authority that has been renewed under its name and key is there twice for a while: the old one must not end the way.
        let current = authorities.filter { $0.notBefore <= time && time <= $0.notAfter }
        let way: [Certificate]
        do throws(ChainFailure) {
            way = try chain.verify(anchors: current, purpose: .any, time: time)
        } catch {
            throw current.count == authorities.count ? first(error) : reason(chain, authorities, time) ?? first(error)
        }
        for (below, issuer) in zip(way, way.dropFirst()) {
            guard issuer.isCA else { throw .issuerNotCA(subject: below.subject, issuer: issuer.subject) }
            try judgeForm(issuer)
            try judgeKey(issuer)
        }
        guard way.count > 1 else { throw .other(subject: leaf.subject, reason: "it is its own issuer") }
        return way
    }

    /// The rules for a leaf under an authority: dates, no CA, meant for TLS clients, made to sign, a key that holds.
    package static func judgeLeaf(_ leaf: Certificate, at time: Int64) throws(ChainFault) {
        try judgePinned(leaf, at: time)
        try judgeForm(leaf)
        guard !leaf.claimsCA else { throw .isCA(subject: leaf.subject) }
        if let purposes = leaf.extendedKeyUsage, !purposes.contains("clientAuth") {
            throw .wrongPurpose(subject: leaf.subject, wanted: "TLS client", usages: purposes.joined(separator: ", ").printable)
        }
        if let usage = leaf.keyUsage, !usage.contains(.digitalSignature) {
            throw .wrongPurpose(subject: leaf.subject, wanted: "TLS client", usages: usage.description)
        }
    }

    /// The rules for a leaf that is known by its thumbprint: dates and key; who issued it and for what does not matter.
    package static func judgePinned(_ leaf: Certificate, at time: Int64) throws(ChainFault) {
        guard time >= leaf.notBefore else { throw .notYetValid(subject: leaf.subject, from: leaf.notBefore) }
        guard time <= leaf.notAfter else { throw .expired(subject: leaf.subject, at: leaf.notAfter) }
        try judgeKey(leaf)
    }

    /// Whether the leaf's one common name is `name`, with case: the device's id, or `{deviceId}/{moduleId}`.
    package static func judgeName(_ leaf: Certificate, is name: String) throws(ChainFault) {
        guard let own = leaf.commonName, own.utf8.elementsEqual(name.utf8) else {
            throw .nameMismatch(wanted: name.printable, names: leaf.commonName.map { [$0.printable] } ?? [])
        }
    }

    /// An extension that cannot be read, or stands there twice, would otherwise count as none.
    private static func judgeForm(_ certificate: Certificate) throws(ChainFault) {
        guard certificate.hasReadableExtensions else {
            throw .other(subject: certificate.subject, reason: "an extension of it cannot be read")
        }
    }

    /// RSA of at least 2048 bits, the curves P-256 and stronger of NIST, and Ed25519 and Ed448.
    private static func judgeKey(_ certificate: Certificate) throws(ChainFault) {
        let kind = certificate.publicKeyAlgorithm, bits = certificate.publicKeyBits
        let isStrong = kind.hasPrefix("RSA") ? bits >= 2048 : strong.contains(kind)
        guard isStrong else { throw .weak(subject: certificate.subject, what: "\(kind) key of \(bits) bits") }
    }

    private static let strong = ["EC P-256", "EC P-384", "EC P-521", "Ed25519", "Ed448"]

    private static func first(_ failure: ChainFailure) -> ChainFault {
        failure.reasons.first ?? .other(subject: "the chain", reason: "refused")
    }

    /// What stands against the chain when authorities that are out of their dates may end it.
    private static func reason(_ chain: CertificateChain, _ authorities: [Certificate], _ time: Int64) -> ChainFault? {
        do throws(ChainFailure) {
            _ = try chain.verify(anchors: authorities, purpose: .any, time: time)
            return nil
        } catch {
            return error.reasons.first
        }
    }
}
