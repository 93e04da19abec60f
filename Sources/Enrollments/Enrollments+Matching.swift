import Store
import TLS
import Wire

extension Enrollments {
    /// Finds the enrollment that decides, and checks what the device shows against it (dps 8, 9).
    ///
    /// - Parameters:
    ///   - registrationID: as the connection says it.
    ///   - token: the CONNECT's password or the field `Authorization`; nil or empty when there is none.
    ///   - certificates: what the device has shown in TLS; possession of its key is proven.
    ///   - scope: the id scope that the connection says.
    ///   - now: seconds since 1970.
    package func authenticate(
        registrationID: String, token: String?, certificates: ClientCertificates, scope: String, now: Int64
    ) throws(EnrollmentRefusal) -> Admission {
        let verdict: Result<Admission, EnrollmentRefusal>
        do throws(EnrollmentError) {
            verdict = try read { transaction throws(EnrollmentError) in
                let applicant = Applicant(id: registrationID, token: token ?? "", certificates: certificates, scope: scope, now: now)
                return try Self.judge(applicant, in: transaction)
            }
        } catch { throw EnrollmentRefusal(error) }
        return try verdict.get()
    }

    private static func judge(
        _ applicant: Applicant, in transaction: borrowing ReadTransaction
    ) throws(EnrollmentError) -> Result<Admission, EnrollmentRefusal> {
        guard ASCII.equalIgnoringCase(applicant.scope, try settings(in: transaction).scope) else {
            return .failure(EnrollmentRefusal("unknown-scope", "the id scope is not this service's"))
        }
        guard let name = try? EnrollmentName(.individual, applicant.id) else {
            return .failure(EnrollmentRefusal("malformed-id", "the registration id breaks the rule for ids"))
        }
        if let enrollment = try find(name, in: transaction) {
            let authorities = try authorities(of: enrollment, in: transaction)
            return applicant.verdict { () throws(EnrollmentRefusal) in try applicant.prove(enrollment, authorities) }
        }
        let groups = try all(.groups, in: transaction) { _, bytes in decode(bytes, .group) }
        if !applicant.token.isEmpty { return applicant.verdict { () throws(EnrollmentRefusal) in try applicant.prove(anyOf: groups) } }
        var offers: [Applicant.Offer] = []
        for group in groups {
            for authority in try authorities(of: group, in: transaction) { offers.append(Applicant.Offer(authority, of: group)) }
        }
        let verified = try all(.certificates, in: transaction) { _, bytes in ServiceCertificate(record: bytes) }
            .filter(\.isVerified).map(\.certificate)
        return applicant.verdict { () throws(EnrollmentRefusal) in try applicant.prove(anyOf: offers, verified: verified) }
    }

    /// The CAs that an enrollment takes devices of; references to certificates that are not verified count for nothing.
    private static func authorities(
        of enrollment: Enrollment, in transaction: borrowing ReadTransaction
    ) throws(EnrollmentError) -> [Certificate] {
        guard case .x509(let certificates) = enrollment.attestation else { return [] }
        var found = certificates.form == .signingCertificates ? certificates.certificates : []
        for name in certificates.references {
            if let known = try certificate(name, in: transaction), known.isVerified { found.append(known.certificate) }
        }
        return found
    }
}

/// What a device says and shows.
struct Applicant {
    let id: String
    let token: String
    let certificates: ClientCertificates
    let scope: String
    let now: Int64

    /// A CA, and the group that takes devices of it.
    struct Offer {
        let authority: Certificate
        let group: Enrollment

        init(_ authority: Certificate, of group: Enrollment) {
            self.authority = authority
            self.group = group
        }
    }

    func verdict(_ body: () throws(EnrollmentRefusal) -> Admission) -> Result<Admission, EnrollmentRefusal> {
        do throws(EnrollmentRefusal) { return .success(try body()) } catch { return .failure(error) }
    }

    private static let disabled = EnrollmentRefusal("disabled", "the enrollment is disabled", "The enrollment is disabled")

    /// By an individual enrollment: nothing else is asked.
    func prove(_ enrollment: Enrollment, _ authorities: [Certificate]) throws(EnrollmentRefusal) -> Admission {
        guard enrollment.isEnabled else { throw Self.disabled }
        switch enrollment.attestation {
        case .symmetricKey(let primary, let secondary):
            let token = try parsedToken()
            guard isSigned(token, by: primary, secondary) else { throw EnrollmentRefusal("wrong-signature", "the token has another key") }
            try check(token)
            return Admission(enrollment, id, primary: primary, secondary: secondary)
        case .x509(let certificates):
            let leaf = try leaf()
            if certificates.form == .clientCertificates {
                guard certificates.certificates.contains(where: { $0.isSame(as: leaf) }) else {
                    throw EnrollmentRefusal("wrong-certificate", "the certificate is not the enrolled one", "Invalid certificate")
                }
                try judging { () throws(ChainFault) in try ClientChain.judgePinned(leaf, at: now) }
                return Admission(enrollment, id, leaf: leaf, authority: nil)
            }
            let authority = try authority(of: leaf, among: authorities)
            return Admission(enrollment, id, leaf: leaf, authority: authority)
        case .tpm: throw EnrollmentRefusal("tpm", "this service does not attest by TPM", "TPM attestation is not supported")
        }
    }

    /// By the symmetric-key group whose derived key has signed the token; of several the first by id.
    func prove(anyOf groups: [Enrollment]) throws(EnrollmentRefusal) -> Admission {
        let token = try parsedToken()
        var found: (Enrollment, SymmetricKey, SymmetricKey)?
        // All are tried, with the id as it is and in lower case: the time taken tells nothing of which it was.
        for group in groups {
            guard case .symmetricKey(let primary, let secondary) = group.attestation else { continue }
            for id in Set([id, id.lowercased()]) {
                guard let first = primary.derived(for: id), let second = secondary.derived(for: id) else { continue }
                if isSigned(token, by: first, second), found == nil { found = (group, first, second) }
            }
        }
        guard let (group, primary, secondary) = found else {
            throw EnrollmentRefusal("no-enrollment", "no enrollment of this id, and no group whose key has made the token")
        }
        guard group.isEnabled else { throw Self.disabled }
        try check(token)
        return Admission(group, id, primary: primary, secondary: secondary)
    }

    /// By the group of the CA that is nearest to the leaf.
    func prove(anyOf offers: [Offer], verified: [Certificate]) throws(EnrollmentRefusal) -> Admission {
        let leaf = try leaf()
        let authority = try authority(of: leaf, among: offers.map(\.authority))
        let taken = offers.filter { $0.authority.isSame(as: authority) }
        guard let group = (taken.first { !$0.group.isEnabled } ?? taken.first)?.group else {
            throw EnrollmentRefusal("no-enrollment", "no enrollment of this id, and no group of this CA", "Invalid certificate")
        }
        guard group.isEnabled else { throw Self.disabled }
        guard isVouchedFor(authority, verified) else {
            throw EnrollmentRefusal("unverified", "neither the signing certificate nor one above it is verified", "Invalid certificate")
        }
        return Admission(group, id, leaf: leaf, authority: authority)
    }

    /// Whether somebody has shown to have the key of a CA or of one above it (dps 9.3).
    private func isVouchedFor(_ authority: Certificate, _ verified: [Certificate]) -> Bool {
        func holds(_ certificate: Certificate) -> Bool { (certificate.notBefore...certificate.notAfter).contains(now) }
        var current = authority
        let chain = (try? certificates.presented()) ?? []
        for _ in 0...8 {
            if verified.contains(where: { ($0.isSame(as: current) || current.isIssued(by: $0)) && $0.isCA && holds($0) }) { return true }
            guard let next = chain.dropFirst().first(where: { !$0.isSame(as: current) && current.isIssued(by: $0) }), next.isCA, holds(next)
            else { return false }
            current = next
        }
        return false
    }

    // MARK: - Certificates

    private func leaf() throws(EnrollmentRefusal) -> Certificate {
        guard !certificates.isEmpty else { throw EnrollmentRefusal("no-credential", "neither a token nor a certificate that fits") }
        let leaf = try judging { () throws(ChainFault) in try certificates.leaf() }
        guard let name = leaf.commonName, ASCII.equalIgnoringCase(name, id) else {
            throw EnrollmentRefusal("wrong-name", "the certificate's common name is not the registration id", "Invalid certificate")
        }
        return leaf
    }

    /// The CA at which the chain of a leaf ends. The connection remembers it: who polls is judged once.
    private func authority(of leaf: Certificate, among authorities: [Certificate]) throws(EnrollmentRefusal) -> Certificate {
        try judging { () throws(ChainFault) in
            try certificates.judge(name: leaf.commonName ?? "", authorities: authorities, nearest: true, at: now)
        }
    }

    private func judging<Output>(_ body: () throws(ChainFault) -> Output) throws(EnrollmentRefusal) -> Output {
        do throws(ChainFault) { return try body() } catch { throw EnrollmentRefusal(error.code, error.words, "Invalid certificate") }
    }

    // MARK: - Tokens (dps 5.1)

    private func parsedToken() throws(EnrollmentRefusal) -> SASToken {
        guard !token.isEmpty else { throw EnrollmentRefusal("no-credential", "neither a token nor a certificate that fits") }
        guard let token = try? SASToken(parsing: token), token.policy.map({ ASCII.equalIgnoringCase($0, "registration") }) ?? true else {
            throw EnrollmentRefusal("malformed-token", "the token cannot be read")
        }
        return token
    }

    /// Both keys are tried always, so that the time taken does not tell which one it was.
    private func isSigned(_ token: SASToken, by primary: SymmetricKey, _ secondary: SymmetricKey) -> Bool {
        let isPrimary = token.verify(key: primary), isSecondary = token.verify(key: secondary)
        return isPrimary || isSecondary
    }

    /// After the signature: a stranger learns nothing from the difference.
    private func check(_ token: SASToken) throws(EnrollmentRefusal) {
        let wanted = "\(scope)/registrations/\(id)"
        let said = PercentCoding.decode(token.writtenResource) ?? ""
        guard [said, PercentCoding.decode(said) ?? said].contains(where: { ASCII.equalIgnoringCase($0, wanted) }) else {
            throw EnrollmentRefusal("wrong-audience", "the token is for another registration")
        }
        guard !token.isExpired(now: now) else { throw EnrollmentRefusal("expired-token", "the token is over") }
    }
}
