//! Error codes of the table's functions, in words.

use super::api::{self, hipError_t, hipblasStatus_t};
use super::platform::LoadError;
use crate::Remedy;

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} failed with {name} ({code}): {text}")]
pub struct HipError {
    /// The function, under HIP's name.
    pub call: &'static str,
    /// The code that it returned.
    pub code: i32,
    /// HIP's name for the code.
    pub name: &'static str,
    /// The meaning of the code, and a remedy.
    pub text: String,
}

impl HipError {
    /// The error for a code that a runtime function returned.
    pub fn new(call: &'static str, code: hipError_t) -> HipError {
        let (name, text) = describe(code);
        HipError { call, code, name, text: text.into() }
    }

    /// Like [`HipError::new`], with a more specific text.
    pub fn with_text(call: &'static str, code: hipError_t, text: impl Into<String>) -> HipError {
        HipError { text: text.into(), ..HipError::new(call, code) }
    }

    /// The error for a code that a BLAS function returned.
    pub fn blas(call: &'static str, code: hipblasStatus_t) -> HipError {
        let (name, text) = describe_blas(code);
        HipError { call, code, name, text: text.into() }
    }

    /// The remedies of the error; none if they are not known.
    pub fn remedies(&self) -> &'static [Remedy] {
        match self.name {
            "hipErrorOutOfMemory" => &[Remedy::SmallerContext, Remedy::FewerGpuLayers],
            "hipErrorInvalidDevice" => &[Remedy::OtherDevice],
            _ => &[],
        }
    }

    /// True if device memory ran out.
    pub fn is_out_of_memory(&self) -> bool {
        self.code == api::hipErrorOutOfMemory && self.name == "hipErrorOutOfMemory"
    }
}

impl From<LoadError> for HipError {
    fn from(error: LoadError) -> HipError {
        HipError::with_text("dlopen", api::hipErrorNotInitialized, error.to_string())
    }
}

/// HIP's name for a code, its meaning, and a remedy.
fn describe(code: hipError_t) -> (&'static str, &'static str) {
    const FAULT: &str = "every later call of this process fails too. A kernel or the driver is at fault: \
         start the program again, and report the last step that finished";
    match code {
        1 => ("hipErrorInvalidValue", "an argument is out of its range"),
        2 => (
            "hipErrorOutOfMemory",
            "the device has no room for it; use a smaller context, fewer layers on the GPU or a smaller file, or \
             close what else uses the GPU",
        ),
        3 => ("hipErrorNotInitialized", "the runtime could not start; is the GPU's driver loaded?"),
        4 => ("hipErrorDeinitialized", "the runtime is shutting down"),
        5 => ("hipErrorProfilerDisabled", "a profiler is needed"),
        9 => ("hipErrorInvalidConfiguration", "the device cannot launch that grid, block or shared memory"),
        13 => ("hipErrorInvalidSymbol", "no such symbol"),
        17 => ("hipErrorInvalidDevicePointer", "the address is not one of the device's"),
        21 => ("hipErrorInvalidMemcpyDirection", "the copy's direction does not fit its addresses"),
        35 => (
            "hipErrorInsufficientDriver",
            "the GPU's driver is older than the runtime; update the driver, or install an older runtime",
        ),
        52 => ("hipErrorMissingConfiguration", "a launch was not configured"),
        53 => ("hipErrorPriorLaunchFailure", FAULT),
        98 => ("hipErrorInvalidDeviceFunction", "the kernel is not one of the device's"),
        100 => ("hipErrorNoDevice", "the runtime sees no GPU that it supports"),
        101 => ("hipErrorInvalidDevice", "there is no device of that number; choose another device"),
        200 => ("hipErrorInvalidImage", "the code object is damaged or not for this platform"),
        201 => ("hipErrorInvalidContext", "the device is not open for this thread"),
        205 => ("hipErrorMapFailed", "memory could not be mapped"),
        206 => ("hipErrorUnmapFailed", "memory could not be unmapped"),
        209 => ("hipErrorNoBinaryForGpu", "the code object was compiled for another GPU"),
        214 => ("hipErrorECCNotCorrectable", "the GPU's memory has a fault that it cannot correct"),
        215 => ("hipErrorUnsupportedLimit", "the device has no such limit"),
        217 => ("hipErrorPeerAccessUnsupported", "the devices cannot reach each other's memory"),
        218 => ("hipErrorInvalidKernelFile", "the code object cannot be read; clear the kernel cache"),
        219 => ("hipErrorInvalidGraphicsContext", "no such graphics context"),
        300 => ("hipErrorInvalidSource", "the kernel's source is not valid"),
        301 => {
            ("hipErrorFileNotFound", "a file that the runtime needs is missing; install the runtime again")
        }
        302 => ("hipErrorSharedObjectSymbolNotFound", "a library of the runtime is of another version"),
        303 => ("hipErrorSharedObjectInitFailed", "a library of the runtime could not start"),
        304 => (
            "hipErrorOperatingSystem",
            "the operating system refused; may this user open the GPU's device node?",
        ),
        400 => ("hipErrorInvalidHandle", "the object is not one of this device's"),
        401 => ("hipErrorIllegalState", "the object is not in a state to do that"),
        500 => ("hipErrorNotFound", "nothing of that name is there"),
        600 => ("hipErrorNotReady", "the work has not finished yet"),
        700 => ("hipErrorIllegalAddress", FAULT),
        701 => (
            "hipErrorLaunchOutOfResources",
            "the kernel needs more registers or shared memory than the device has for a block of that size",
        ),
        702 => ("hipErrorLaunchTimeOut", "a kernel ran for longer than the system allows on this GPU"),
        704 => ("hipErrorPeerAccessAlreadyEnabled", "peer access is on already"),
        705 => ("hipErrorPeerAccessNotEnabled", "peer access is off"),
        708 => ("hipErrorSetOnActiveProcess", "too late: the device is in use"),
        709 => ("hipErrorContextIsDestroyed", "the device was closed"),
        710 => ("hipErrorAssert", "an assertion in a kernel failed"),
        712 => ("hipErrorHostMemoryAlreadyRegistered", "the host memory is pinned already"),
        713 => ("hipErrorHostMemoryNotRegistered", "the host memory is not pinned"),
        719 => ("hipErrorLaunchFailure", FAULT),
        720 => ("hipErrorCooperativeLaunchTooLarge", "the grid does not fit on the device at once"),
        801 => ("hipErrorNotSupported", "the device or the runtime cannot do that"),
        900 => ("hipErrorStreamCaptureUnsupported", "the stream is being captured, and the call cannot be"),
        901 => ("hipErrorStreamCaptureInvalidated", "an earlier error spoilt the capture"),
        902 => ("hipErrorStreamCaptureMerge", "two captures would become one"),
        903 => ("hipErrorStreamCaptureUnmatched", "the capture did not begin on this stream"),
        904 => ("hipErrorStreamCaptureUnjoined", "another stream of the capture was not waited for"),
        905 => ("hipErrorStreamCaptureIsolation", "the event belongs to work outside of the capture"),
        906 => ("hipErrorStreamCaptureImplicit", "the call would wait for a stream that is being captured"),
        907 => ("hipErrorCapturedEvent", "the event was recorded in a capture"),
        908 => ("hipErrorStreamCaptureWrongThread", "the capture began on another thread"),
        910 => ("hipErrorGraphExecUpdateFailure", "the graph differs too much to be updated"),
        911 => ("hipErrorInvalidChannelDescriptor", "no such channel format"),
        912 => ("hipErrorInvalidTexture", "no such texture"),
        1052 => ("hipErrorRuntimeMemory", "the runtime has no memory of its own left"),
        1053 => ("hipErrorRuntimeOther", "the runtime failed without saying why"),
        _ => (
            "hipErrorUnknown",
            "the runtime does not say more; the system's log (`dmesg`) may, and AMD_LOG_LEVEL=3 makes ROCm tell more",
        ),
    }
}

/// hipBLAS's name for a status, and its meaning.
fn describe_blas(code: hipblasStatus_t) -> (&'static str, &'static str) {
    match code {
        1 => ("HIPBLAS_STATUS_NOT_INITIALIZED", "the BLAS library could not start on this device"),
        2 => ("HIPBLAS_STATUS_ALLOC_FAILED", "the device has no room for the BLAS library's own memory"),
        3 => ("HIPBLAS_STATUS_INVALID_VALUE", "an argument is out of its range"),
        4 => ("HIPBLAS_STATUS_MAPPING_ERROR", "memory could not be mapped"),
        5 => ("HIPBLAS_STATUS_EXECUTION_FAILED", "a kernel of the BLAS library failed"),
        6 => ("HIPBLAS_STATUS_INTERNAL_ERROR", "the BLAS library failed without saying why"),
        7 => ("HIPBLAS_STATUS_NOT_SUPPORTED", "the BLAS library has no such product for these types"),
        8 => ("HIPBLAS_STATUS_ARCH_MISMATCH", "the BLAS library has no kernels for this GPU"),
        9 => ("HIPBLAS_STATUS_HANDLE_IS_NULLPTR", "the BLAS handle is null"),
        10 => ("HIPBLAS_STATUS_INVALID_ENUM", "the BLAS library does not know one of the types"),
        _ => ("HIPBLAS_STATUS_UNKNOWN", "the BLAS library does not say more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_call_and_the_code_and_says_what_to_do() {
        let error = HipError::new("hipMalloc", api::hipErrorOutOfMemory);
        assert!(error.is_out_of_memory());
        let text = error.to_string();
        assert!(text.starts_with("hipMalloc failed with hipErrorOutOfMemory (2): "), "{text}");
        assert!(text.contains("smaller context"), "{text}");
        // The BLAS status with the same number means something else.
        assert!(!HipError::blas("hipblasCreate", 3).is_out_of_memory());
        assert_eq!(HipError::new("hipInit", 12345).code, 12345);
        assert_eq!(HipError::new("hipInit", 12345).name, "hipErrorUnknown");
    }
}
