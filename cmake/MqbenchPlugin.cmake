# mqbench_add_plugin(NAME source...): a plugin as the SDK wants it. Links nothing of the engine.
set(MQBENCH_PLUGIN_CMAKE_DIR ${CMAKE_CURRENT_LIST_DIR})
function(mqbench_add_plugin name)
  add_library(${name} MODULE ${ARGN})
  set_target_properties(${name} PROPERTIES PREFIX "" C_VISIBILITY_PRESET hidden)
  target_compile_features(${name} PRIVATE c_std_11)
  target_compile_options(${name} PRIVATE -O3 -ffp-contract=off -fno-math-errno -fvisibility=hidden
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes)
  if(NOT MQB_SANITIZE)
    target_link_options(${name} PRIVATE -Wl,-z,defs)
  endif()
  target_link_options(${name} PRIVATE -Wl,-z,now,-z,relro
    -Wl,--version-script=${MQBENCH_PLUGIN_CMAKE_DIR}/plugin.map)
  set_target_properties(${name} PROPERTIES LINK_DEPENDS ${MQBENCH_PLUGIN_CMAKE_DIR}/plugin.map)
  # A umask of 002 would leave a file that the loader refuses (rule MQB-P13).
  add_custom_command(TARGET ${name} POST_BUILD COMMAND chmod go-w $<TARGET_FILE:${name}> VERBATIM)
  if(TARGET mqb_flags)
    # In the tree: the project's own switches, and the place where the default manifest looks.
    target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/core/include)
    set_target_properties(${name} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${MQB_PLUGIN_DIR})
    if(MQB_WERROR)
      target_compile_options(${name} PRIVATE -Werror)
    endif()
    if(MQB_SANITIZE)
      target_compile_options(${name} PRIVATE -fsanitize=${MQB_SANITIZE} -fno-sanitize-recover=all)
      target_link_options(${name} PRIVATE -fsanitize=${MQB_SANITIZE})
    endif()
  endif()
endfunction()
