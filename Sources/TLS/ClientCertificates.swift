import COpenSSL
import Synchronization

/// What a client has shown in its handshake, and what was found about it. Belongs to its connection.
package final class ClientCertificates {
    /// That a chain was found good, so that another look costs no signature.
    package struct Proof: Sendable {
        /// The name that the leaf has.
        package let name: String
        /// SHA-256 of the authority at which the chain ends, upper-case hex.
        package let authority: String
        /// Which authorities there were to choose from, where that matters; else empty.
        fileprivate let choice: [UInt8]
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

    /// All that was shown, leaf first.
    package func presented() throws(ChainFault) -> [Certificate] {
        var presented: [Certificate] = []
        for each in der { presented.append(try Self.read(each)) }
        return presented
    }

    /// Judges the chain for a device of this name; see `ClientChain.judge`.
    ///
    /// - Parameter nearest: whether it matters which of several authorities ends the chain: with another one among them it is judged anew.
    /// - Returns: the authority at which it ends.
    package func judge(
        name: String, authorities: [Certificate], nearest: Bool = false, at time: Int64
    ) throws(ChainFault) -> Certificate {
        let choice = nearest ? Self.digest(of: authorities.filter { $0.notBefore <= time && time <= $0.notAfter }.map(\.der)) : []
        if let known = proof?.authority(for: name, among: authorities, choice, at: time) { return known }
        let digest = Self.digest(of: der)
        if let proof = Self.accepted.withLock({ $0[digest] }), let known = proof.authority(for: name, among: authorities, choice, at: time)
        {
            self.proof = proof
            return known
        }
        guard der.count <= ClientChain.mostPresented else { throw .tooLong(limit: ClientChain.mostPresented) }
        let presented = try presented()
        guard let leaf = presented.first else { throw .nothingShown }
        try ClientChain.judgeLeaf(leaf, at: time)
        try ClientChain.judgeName(leaf, is: name)
        let way = try ClientChain.way(presented: presented, authorities: authorities, at: time)
        guard let authority = way.last else { throw .nothingShown }
        let from = way.reduce(Int64.min) { max($0, $1.notBefore) }, until = way.reduce(Int64.max) { min($0, $1.notAfter) }
        guard from <= until else { return authority }
        let proof = Proof(name: name, authority: authority.sha256Thumbprint, choice: choice, validity: from...until)
        self.proof = proof
        Self.accepted.withLock { accepted in
            if accepted.count >= Self.mostAccepted { accepted.removeAll(keepingCapacity: true) }
            accepted[digest] = proof
        }
        return authority
    }

    /// Chains that were found good lately, by the digest of what was shown: a device that comes back shows the one it had.
    private static let accepted = Mutex<[[UInt8]: Proof]>([:])
    private static let mostAccepted = 1024

    /// SHA-256 over all parts, each with its length before it.
    private static func digest(of parts: [[UInt8]]) -> [UInt8] {
        var all: [UInt8] = [], result = [UInt8](repeating: 0, count: 32)
        for each in parts {
            withUnsafeBytes(of: UInt32(truncatingIfNeeded: each.count).bigEndian) { all.append(contentsOf: $0) }
            all.append(contentsOf: each)
        }
        guard EVP_Digest(all, all.count, &result, nil, EVP_sha256(), nil) == 1 else { return all }
        return result
    }

    /// Drops what was shown besides the leaf, for a connection that stays; the proof does not need it.
    package func keepLeaf() { der.removeLast(max(0, der.count - 1)) }

    private static func read(_ der: [UInt8]) throws(ChainFault) -> Certificate {
        do throws(CertificateError) { return try Certificate(der: der) } catch {
            throw .other(subject: "a certificate that was shown", reason: error.description)
        }
    }
}

extension ClientCertificates.Proof {
    /// The authority at which the chain ends, if that is still one, and the time, the name and the choice are right.
    fileprivate func authority(
        for name: String, among authorities: [Certificate], _ choice: [UInt8], at time: Int64
    ) -> Certificate? {
        guard self.name.utf8.elementsEqual(name.utf8), validity.contains(time), choice.isEmpty || choice == self.choice else { return nil }
        return authorities.first { $0.sha256Thumbprint == authority }
    }
}
