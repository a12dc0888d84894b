//! Compute pipelines, one a shader, constants and threads, made once.
#![expect(unsafe_code, reason = "Vulkan is a C interface")]

use super::core::Core;
use super::physical::Physical;
use crate::Error;
use ash::vk;
use graph::Shader;
use std::cell::RefCell;
use std::collections::HashMap;

/// What a pipeline is made of: the shader's name, threads, then constants.
type Key = (&'static str, Vec<u32>);

/// All pipelines of a device, and the layout that they share.
#[derive(Default)]
pub struct Pipelines {
    /// Push constants only.
    pub layout: vk::PipelineLayout,
    made: RefCell<HashMap<Key, vk::Pipeline>>,
}

impl Pipelines {
    /// Makes the layout.
    pub fn open(&mut self, device: &ash::Device, physical: &Physical) -> Result<(), vk::Result> {
        let ranges = [vk::PushConstantRange::default()
            .stage_flags(vk::ShaderStageFlags::COMPUTE)
            .size(physical.spec.argument_bytes / 4 * 4)];
        let info = vk::PipelineLayoutCreateInfo::default().push_constant_ranges(&ranges);
        // SAFETY: the device is alive, and `destroy` ends the layout.
        self.layout = unsafe { device.create_pipeline_layout(&info, None) }?;
        Ok(())
    }

    /// Destroys everything.
    ///
    /// # Safety
    /// Nothing that uses a pipeline may be running or run later.
    pub unsafe fn destroy(&mut self, device: &ash::Device) {
        // SAFETY: the caller's promise.
        unsafe {
            for (_, pipeline) in self.made.borrow_mut().drain() {
                device.destroy_pipeline(pipeline, None);
            }
            device.destroy_pipeline_layout(self.layout, None);
        }
    }
}

/// The pipeline of a shader with its number of threads and its constants 1, 2, ...
pub fn pipeline(core: &Core, shader: &'static Shader, threads: u32, constants: &[u32]) -> Result<vk::Pipeline, Error> {
    let key: Key = (shader.name, std::iter::once(threads).chain(constants.iter().copied()).collect());
    if let Some(made) = core.pipelines.made.borrow().get(&key) {
        return Ok(*made);
    }
    let made = build(core, shader, &key.1)?;
    core.pipelines.made.borrow_mut().insert(key, made);
    Ok(made)
}

fn build(core: &Core, shader: &'static Shader, constants: &[u32]) -> Result<vk::Pipeline, Error> {
    let refuse = |log: String| Error::Compile { device: core.name().into(), source_name: shader.source.into(), log };
    let spec = &core.physical.spec;
    let threads = constants[0];
    if threads == 0 || threads > spec.max_threads {
        let what = format!("shader `{}` wants {threads} threads a group; at most {}", shader.name, spec.max_threads);
        return Err(core.mismatch(what));
    }
    if shader.spirv.is_empty() || !shader.spirv.len().is_multiple_of(4) {
        return Err(refuse(format!("shader `{}` has no SPIR-V: run the shader tool (`just shaders`)", shader.name)));
    }
    // Embedded bytes lie anywhere; SPIR-V is read as words.
    let words: Vec<u32> = shader.spirv.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let info = vk::ShaderModuleCreateInfo::default().code(&words);
    // SAFETY: the words are a whole module, compiled ahead of time.
    let module = unsafe { core.device.create_shader_module(&info, None) }.map_err(|e| refuse(e.to_string()))?;
    let entries: Vec<_> = (0..constants.len() as u32)
        .map(|i| vk::SpecializationMapEntry { constant_id: i, offset: i * 4, size: 4 })
        .collect();
    let data = bytemuck::cast_slice(constants);
    let special = vk::SpecializationInfo::default().map_entries(&entries).data(data);
    let whole = threads.is_multiple_of(spec.subgroup_size) && core.physical.full_subgroups;
    let flags = if whole {
        vk::PipelineShaderStageCreateFlags::REQUIRE_FULL_SUBGROUPS
    } else {
        vk::PipelineShaderStageCreateFlags::empty()
    };
    let mut size =
        vk::PipelineShaderStageRequiredSubgroupSizeCreateInfo::default().required_subgroup_size(spec.subgroup_size);
    let mut stage = vk::PipelineShaderStageCreateInfo::default()
        .flags(flags)
        .stage(vk::ShaderStageFlags::COMPUTE)
        .module(module)
        .name(c"main")
        .specialization_info(&special);
    if core.physical.fixed_subgroup {
        stage = stage.push_next(&mut size);
    }
    let info = [vk::ComputePipelineCreateInfo::default().stage(stage).layout(core.pipelines.layout)];
    // SAFETY: every pointer in `info` outlives the call; the module isn't used after it.
    let made = unsafe {
        let made = core.device.create_compute_pipelines(vk::PipelineCache::null(), &info, None);
        core.device.destroy_shader_module(module, None);
        made
    };
    Ok(made.map_err(|(_, e)| refuse(format!("shader `{}`: {e}", shader.name)))?[0])
}
