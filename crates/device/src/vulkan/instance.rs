//! The Vulkan loader, an instance, and the validation layers' messages.
#![expect(unsafe_code, reason = "Vulkan is a C interface")]

use crate::Error;
use ash::{ext, vk};
use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

const VALIDATION: &CStr = c"VK_LAYER_KHRONOS_validation";

/// An instance, destroyed after everything that was made from it.
pub struct Instance {
    /// Its functions.
    pub raw: ash::Instance,
    messenger: Option<(ext::debug_utils::Instance, vk::DebugUtilsMessengerEXT)>,
    messages: Box<AtomicU64>,
    /// Keeps the loader's library open.
    entry: ash::Entry,
}

/// A missing part of the machine, by name.
pub fn unavailable(what: impl Into<String>, advice: &str) -> Error {
    Error::Unavailable { device: "vulkan".into(), what: what.into(), advice: advice.into() }
}

/// A failed call on the way to a device.
pub fn failed(call: &'static str) -> impl Fn(vk::Result) -> Error {
    move |result| Error::Driver { device: "vulkan".into(), call, what: result.to_string() }
}

const INSTALL: &str = "install the GPU's driver and the Vulkan loader (Debian: libvulkan1, and mesa-vulkan-drivers for \
                       AMD, Intel and software devices), or use --device cpu";

impl Instance {
    /// Loads the loader and makes an instance of Vulkan 1.2 or newer.
    pub fn open(validation: bool) -> Result<Instance, Error> {
        // SAFETY: loading a system library runs its initialisers, which are the Vulkan loader's own.
        let entry = unsafe { ash::Entry::load() }
            .map_err(|e| unavailable(format!("the Vulkan loader can't be loaded ({e})"), INSTALL))?;
        // SAFETY: the entry's functions were loaded just now; nothing else is asked of this call.
        let version = unsafe { entry.try_enumerate_instance_version() }
            .map_err(failed("vkEnumerateInstanceVersion"))?
            .unwrap_or(vk::API_VERSION_1_0);
        if version < vk::API_VERSION_1_2 {
            let what = format!("the loader knows Vulkan {}; 1.2 is needed", show_version(version));
            return Err(unavailable(what, INSTALL));
        }
        let layers: Vec<_> = validation.then_some(VALIDATION.as_ptr()).into_iter().collect();
        let extensions: Vec<_> = validation.then_some(ext::debug_utils::NAME.as_ptr()).into_iter().collect();
        if validation && !has_layer(&entry)? {
            let what = "the layer VK_LAYER_KHRONOS_validation isn't installed";
            return Err(unavailable(what, "install Khronos' validation layers (Debian: vulkan-validationlayers)"));
        }
        let application = vk::ApplicationInfo::default()
            .application_name(c"rondo")
            .engine_name(c"rondo")
            .api_version(version.min(vk::API_VERSION_1_3));
        let info = vk::InstanceCreateInfo::default()
            .application_info(&application)
            .enabled_layer_names(&layers)
            .enabled_extension_names(&extensions);
        // SAFETY: every pointer in `info` outlives the call.
        let raw = unsafe { entry.create_instance(&info, None) }.map_err(|result| match result {
            vk::Result::ERROR_INCOMPATIBLE_DRIVER => unavailable("no Vulkan driver is installed", INSTALL),
            other => failed("vkCreateInstance")(other),
        })?;
        let mut instance = Instance { raw, messenger: None, messages: Box::new(AtomicU64::new(0)), entry };
        if validation {
            instance.listen()?;
        }
        Ok(instance)
    }

    /// Messages of the validation layers so far.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    fn listen(&mut self) -> Result<(), Error> {
        let functions = ext::debug_utils::Instance::new(&self.entry, &self.raw);
        let severity = vk::DebugUtilsMessageSeverityFlagsEXT::WARNING | vk::DebugUtilsMessageSeverityFlagsEXT::ERROR;
        let info = vk::DebugUtilsMessengerCreateInfoEXT::default()
            .message_severity(severity)
            .message_type(
                vk::DebugUtilsMessageTypeFlagsEXT::VALIDATION | vk::DebugUtilsMessageTypeFlagsEXT::PERFORMANCE,
            )
            .pfn_user_callback(Some(on_message))
            .user_data((&raw const *self.messages).cast_mut().cast());
        // SAFETY: the counter is boxed and outlives the messenger, which `drop` destroys first.
        let messenger = unsafe { functions.create_debug_utils_messenger(&info, None) }
            .map_err(failed("vkCreateDebugUtilsMessengerEXT"))?;
        self.messenger = Some((functions, messenger));
        Ok(())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: everything made from the instance holds it through `Rc`, and so was destroyed before.
        unsafe {
            if let Some((functions, messenger)) = self.messenger.take() {
                functions.destroy_debug_utils_messenger(messenger, None);
            }
            self.raw.destroy_instance(None);
        }
    }
}

/// Major, minor and patch.
pub fn show_version(version: u32) -> String {
    let parts = [vk::api_version_major(version), vk::api_version_minor(version), vk::api_version_patch(version)];
    parts.map(|n| n.to_string()).join(".")
}

fn has_layer(entry: &ash::Entry) -> Result<bool, Error> {
    // SAFETY: a query without arguments.
    let layers =
        unsafe { entry.enumerate_instance_layer_properties() }.map_err(failed("vkEnumerateInstanceLayerProperties"))?;
    Ok(layers.iter().any(|l| l.layer_name_as_c_str() == Ok(VALIDATION)))
}

/// Counts and prints a message of the validation layers.
unsafe extern "system" fn on_message(
    _: vk::DebugUtilsMessageSeverityFlagsEXT,
    _: vk::DebugUtilsMessageTypeFlagsEXT,
    data: *const vk::DebugUtilsMessengerCallbackDataEXT<'_>,
    user: *mut c_void,
) -> vk::Bool32 {
    // SAFETY: `user` is the boxed counter that `listen` gave, and `data` is valid during the callback.
    let text = unsafe {
        (*user.cast::<AtomicU64>()).fetch_add(1, Ordering::Relaxed);
        (*data).message_as_c_str().map(CStr::to_string_lossy)
    };
    eprintln!("vulkan validation: {}", text.as_deref().unwrap_or("(no text)"));
    vk::FALSE
}
