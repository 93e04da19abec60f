import Console
import Registry
import Store
import Wire

extension Failure {
    /// What the registry refused, for the person at the command line.
    init(_ error: RegistryError) {
        switch error {
        case .store(let error): self.init(error)
        case .argumentInvalid, .argumentNull, .bulkTooLarge, .deviceDefinedMultipleTimes: self = .data(error.message)
        case .unauthorized, .forbidden: self = .notPermitted(error.message)
        case .deviceNotFound(let id): self = .refused("\(id): no such device", "iotstream device list shows them")
        case .moduleNotFound(let name): self = .refused("\(name): no such module", "iotstream module list \(name.deviceID) shows them")
        case .policyNotFound(let name): self = .refused("\(name): no such policy", "iotstream policy list shows them")
        case .deviceAlreadyExists(let id): self = .refused("\(id): there is such a device already", "take another name, or delete it first")
        case .jobNotFound(let id): self = .refused("\(id): no such job", "iotstream job list shows them")
        case .jobAlreadyExists(let id): self = .refused("\(id): there is such a job already", "take another name")
        case .configurationNotFound(let id): self = .refused("\(id): no such configuration", "iotstream configuration list shows them")
        case .configurationAlreadyExists(let id):
            self = .refused("\(id): there is such a configuration already", "take another name, or update it")
        case .authorityNotFound(let name): self = .refused("\(name): no such authority", "iotstream authority list shows them")
        case .authorityAlreadyExists(let name):
            self = .refused("\(name): there is such an authority already", "take another name, or --replace it")
        case .preconditionFailed: self = .tryAgain("somebody else changed it meanwhile", "run it again")
        default: self = .refused(error.message)
        }
    }

    /// Trouble with the registry's files; the error brings its remedy along.
    init(_ error: StoreError) {
        self.init(exitCode: error.exitCode, "\(error)")
    }
}

/// Runs something of the registry's and turns its refusal into a failure.
func asking<Result>(_ body: () throws(RegistryError) -> Result) throws(Failure) -> Result {
    do { return try body() } catch { throw Failure(error) }
}
