/// What a client has shown in its handshake, and what was found about it. Belongs to its connection.
package final class ClientCertificates {
    /// That a chain was found good, so that another look costs no signature.
    package struct Proof {
        /// The name that the leaf has.
        package let name: String
        /// SHA-256 of the authority at which the chain ends, upper-case hex.
        package let authority: String
        /// Unix seconds between which every certificate of the chain is valid.
        package let validity: ClosedRange<Int64>
    }

    /// DER, leaf first; empty when the client has shown nothing.
    package private(set) var der: [[UInt8]]
    package private(set) var proof: Proof?

    package init(_ der: [[UInt8]] = []) { self.der = der }

    package var isEmpty: Bool { der.isEmpty }

    /// The leaf alone.
    package func leaf() throws(ChainFault) -> Certificate {
        guard let first = der.first else { throw .nothingShown }
        return try Self.read(first)
    }

    /// Judges the chain for a device of this name; see `ClientChain.judge`.
    /// - Returns: the authority at which it ends.
    package func judge(name: String, authorities: [Certificate], at time: Int64) throws(ChainFault) -> Certificate {
        if let proof, proof.name.utf8.elementsEqual(name.utf8), proof.validity.contains(time),
            let known = authorities.first(where: { $0.sha256Thumbprint == proof.authority })
        {
            return known
        }
        guard der.count <= ClientChain.mostPresented else { throw .tooLong(limit: ClientChain.mostPresented) }
        var presented: [Certificate] = []
        for each in der { presented.append(try Self.read(each)) }
        guard let leaf = presented.first else { throw .nothingShown }
        try ClientChain.judgeLeaf(leaf, at: time)
        try ClientChain.judgeName(leaf, is: name)
        let way = try ClientChain.way(presented: presented, authorities: authorities, at: time)
        guard let authority = way.last else { throw .nothingShown }
        let from = way.reduce(Int64.min) { max($0, $1.notBefore) }, until = way.reduce(Int64.max) { min($0, $1.notAfter) }
        if from <= until { proof = Proof(name: name, authority: authority.sha256Thumbprint, validity: from...until) }
        return authority
    }

    /// Drops what was shown besides the leaf, for a connection that stays; the proof does not need it.
    package func keepLeaf() { der.removeLast(max(0, der.count - 1)) }

    private static func read(_ der: [UInt8]) throws(ChainFault) -> Certificate {
        do throws(CertificateError) { return try Certificate(der: der) } catch {
            throw .other(subject: "a certificate that was shown", reason: error.description)
        }
    }
}
