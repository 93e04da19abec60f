import Store
import Wire

/// A refusal of the registry, with the number and name that clients know (mqtt-device 18, service-rest 3).
package enum RegistryError: Error, Equatable, Sendable {
    case argumentInvalid(String)
    case argumentNull(String)
    case invalidOperation(String)
    case deviceDefinedMultipleTimes(String)
    case bulkTooLarge(Int)
    /// No token, or one that proves nothing.
    case unauthorized
    /// A good token without the right for this.
    case forbidden
    case deviceNotFound(String)
    case moduleNotFound(ClientIdentity)
    case policyNotFound(String)
    case deviceAlreadyExists(String)
    case moduleAlreadyExists(ClientIdentity)
    case policyAlreadyExists(String)
    case preconditionFailed
    case tooManyModules(device: String)
    case messageTooLarge(String)
    case queueFull(device: String)
    case lockLost
    /// There is too much of this; it may come again after so many milliseconds.
    case throttled(milliseconds: Int)
    case jobNotFound(String)
    case jobAlreadyExists(String)
    /// As many jobs as there may be are waiting or at work; the text says which.
    case tooManyJobs(String)
    case configurationNotFound(String)
    case configurationAlreadyExists(String)
    case tooManyConfigurations
    case authorityNotFound(String)
    case authorityAlreadyExists(String)
    case tooManyAuthorities
    case tooManyUploads(device: String)
    case correlationInvalid
    case uploadExpired
    case uploadNotFound
    /// An upload is said to have gone well, and there is no file.
    case noUploadedFile
    /// The files failed, not the request.
    case store(StoreError)

    /// Six digits: the HTTP status and three more.
    package var code: Int {
        switch self {
        case .invalidOperation: 400003
        case .argumentInvalid: 400004
        case .argumentNull: 400005
        case .deviceDefinedMultipleTimes: 400011
        case .bulkTooLarge: 413002
        case .forbidden: 401002
        case .unauthorized: 401003
        case .tooManyJobs: 403003
        case .tooManyConfigurations: 403900
        case .deviceNotFound: 404001
        case .jobNotFound: 404002
        case .configurationNotFound: 404301
        case .jobAlreadyExists: 409104
        case .configurationAlreadyExists: 409401
        case .moduleNotFound: 404010
        case .policyNotFound: 404900
        case .deviceAlreadyExists: 409001
        case .moduleAlreadyExists: 409301
        case .policyAlreadyExists: 409900
        case .preconditionFailed: 412001
        case .tooManyModules: 413003
        case .messageTooLarge: 413001
        case .queueFull: 403004
        case .lockLost: 412002
        case .throttled: 429001
        case .tooManyUploads: 403006
        case .correlationInvalid: 400015
        case .uploadExpired: 400016
        case .noUploadedFile: 400020
        case .uploadNotFound: 404901
        case .authorityNotFound: 404902
        case .authorityAlreadyExists: 409901
        case .tooManyAuthorities: 403901
        case .store(.diskFull), .store(.mapFull): 503001
        case .store: 500001
        }
    }

    /// The status of the REST answer; the numbers of two limits do not say it.
    package var httpStatus: Int {
        switch self {
        case .bulkTooLarge: 400
        case .tooManyModules: 403
        default: code / 1000
        }
    }

    /// The word in `iothub-errorcode`.
    package var name: String {
        switch self {
        case .invalidOperation: "InvalidOperation"
        case .argumentInvalid: "ArgumentInvalid"
        case .argumentNull: "ArgumentNull"
        case .deviceDefinedMultipleTimes: "DeviceDefinedMultipleTimes"
        case .bulkTooLarge: "TooManyDevices"
        case .forbidden: "IotHubUnauthorizedAccess"
        case .unauthorized: "IotHubUnauthorized"
        case .deviceNotFound: "DeviceNotFound"
        case .moduleNotFound: "ModuleNotFound"
        case .policyNotFound: "PolicyNotFound"
        case .deviceAlreadyExists: "DeviceAlreadyExists"
        case .moduleAlreadyExists: "ModuleAlreadyExistsOnDevice"
        case .policyAlreadyExists: "PolicyAlreadyExists"
        case .jobNotFound: "JobNotFound"
        case .jobAlreadyExists: "JobAlreadyExists"
        case .tooManyJobs: "JobQuotaExceeded"
        case .configurationNotFound: "ConfigurationNotFound"
        case .configurationAlreadyExists: "ConfigurationAlreadyExists"
        case .tooManyConfigurations: "ConfigurationCountLimitExceeded"
        case .authorityNotFound: "CertificateNotFound"
        case .authorityAlreadyExists: "CertificateAlreadyExists"
        case .tooManyAuthorities: "CertificateCountLimitExceeded"
        case .preconditionFailed: "PreconditionFailed"
        case .tooManyModules: "TooManyModulesOnDevice"
        case .messageTooLarge: "MessageTooLarge"
        case .queueFull: "DeviceMaximumQueueDepthExceeded"
        case .lockLost: "DeviceMessageLockLost"
        case .throttled: "ThrottlingException"
        case .tooManyUploads: "DeviceMaximumActiveFileUploadLimitExceeded"
        case .correlationInvalid: "InvalidFileUploadCorrelationId"
        case .uploadExpired: "ExpiredFileUploadCorrelationId"
        case .noUploadedFile: "InvalidStorageEndpointOrBlob"
        case .uploadNotFound: "FileUploadNotFound"
        case .store(.diskFull), .store(.mapFull): "ServiceUnavailable"
        case .store: "ServerError"
        }
    }

    /// What was wrong, for a person; paths of the hub's files only in `description`.
    package var message: String {
        switch self {
        case .argumentInvalid(let text), .argumentNull(let text), .invalidOperation(let text), .messageTooLarge(let text): text
        case .deviceDefinedMultipleTimes(let id): "device \(id) is named more than once"
        case .bulkTooLarge(let count): "\(count) entries in one request, at most 100 are taken"
        case .unauthorized: "Unauthorized"
        case .forbidden: "the policy lacks the right for this operation"
        case .deviceNotFound(let id): "device \(id) not registered"
        case .moduleNotFound(let name): "module \(name) not registered"
        case .policyNotFound(let name): "no policy \(name)"
        case .deviceAlreadyExists(let id): "device \(id) already registered"
        case .moduleAlreadyExists(let name): "module \(name) already registered"
        case .policyAlreadyExists(let name): "policy \(name) already exists"
        case .queueFull(let device): "as many messages wait for device \(device) as may"
        case .throttled: "there is too much to do: come again a little later"
        case .lockLost: "the message is no longer held under this lock"
        case .jobNotFound(let id): "no job \(id)"
        case .jobAlreadyExists(let id): "job \(id) already exists"
        case .tooManyJobs(let text): text
        case .configurationNotFound(let id): "no configuration \(id)"
        case .configurationAlreadyExists(let id): "configuration \(id) already exists"
        case .tooManyConfigurations: "there are \(Registry.mostConfigurations) configurations, the most that there may be"
        case .authorityNotFound(let name): "no authority \(name)"
        case .authorityAlreadyExists(let name): "authority \(name) already exists: name its etag, or *, to change it"
        case .tooManyAuthorities: "there are \(Registry.mostAuthorities) authorities, the most that there may be"
        case .tooManyUploads(let device): "device \(device) has \(Registry.mostUploads) uploads pending, the most that it may have"
        case .correlationInvalid: "correlationId is none that this hub gives"
        case .uploadExpired: "the upload was not reported before its link was over"
        case .noUploadedFile: "the upload is said to have gone well, but there is no such file"
        case .uploadNotFound: "no upload with this correlationId is pending"
        case .preconditionFailed: "the etag differs: somebody else changed it meanwhile"
        case .tooManyModules(let device): "device \(device) has \(Registry.mostModules) modules, the most that a device may have"
        case .store(.diskFull), .store(.mapFull): "the hub has no room left"
        case .store: "the hub could not reach its registry"
        }
    }
}

extension RegistryError: StoreFailure, CustomStringConvertible {
    package init(store error: StoreError) { self = .store(error) }

    package var description: String {
        if case .store(let error) = self { error.description } else { message }
    }
}

extension IfMatch {
    /// Refuses when the document that exists is not the one that was meant.
    func check(_ etag: String) throws(RegistryError) {
        if case .etag(let wanted) = self, wanted != etag { throw .preconditionFailed }
    }
}
