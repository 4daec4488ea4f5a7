# Builds examples/plugin_minimal as a third party would: copied out of the tree, with an SDK of the public files alone.
file(REMOVE_RECURSE ${WORK})
file(COPY ${SOURCE}/core/include/mqbench DESTINATION ${WORK}/sdk/include)
file(COPY ${SOURCE}/cmake/MqbenchPlugin.cmake ${SOURCE}/cmake/plugin.map DESTINATION ${WORK}/sdk/cmake)
file(COPY ${SOURCE}/examples/plugin_minimal DESTINATION ${WORK})

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${output}\nfailed: ${ARGN}")
  endif()
  if(output MATCHES "warning:")
    message(FATAL_ERROR "${output}\na third party should see no warnings from ${ARGN}")
  endif()
endfunction()

# Without an SDK, the example says so.
execute_process(COMMAND ${CMAKE_COMMAND} -G ${GENERATOR} -S ${WORK}/plugin_minimal -B ${WORK}/nothing -DCMAKE_C_COMPILER=${COMPILER}
  RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(result EQUAL 0 OR NOT output MATCHES "MQBENCH_SDK=FOLDER")
  message(FATAL_ERROR "configuring without an SDK should fail and name MQBENCH_SDK:\n${output}")
endif()

run(${CMAKE_COMMAND} -G ${GENERATOR} -S ${WORK}/plugin_minimal -B ${WORK}/build -DCMAKE_C_COMPILER=${COMPILER}
  -DMQBENCH_SDK=${WORK}/sdk)
run(${CMAKE_COMMAND} --build ${WORK}/build)
